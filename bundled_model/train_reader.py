"""Train the reader of words and joints. The bench measures with it what pixels do not show: which words a picture
shows, and in which pose its figure is.

    python -m bundled_model.data --output build/data
    python -m bundled_model.train_reader --data build/data --output build/reader --minutes 60

The reader learns from the training set, and from pictures of held-out motions as well, drawn under seeds of their own:
what measures an edit should read poses that the model has never seen. Those pictures have no part in the loss of the
action, which their captions name only nearly. Augmentation imitates what a decoder does to a picture: blur, loss of
detail, false colours and noise. The run is kept in checkpoint.pt and goes on from there under the same command; a run
that is given more or fewer minutes adapts. At the end, reader.safetensors holds the averaged weights, and log.jsonl the
error on the test set.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from bundled_model.data import PictureSet, load_set
from bundled_model.muon import make_optimizers
from bundled_model.reader import Reader, Reading, joint_error, read
from bundled_model.run import Schedule, Training, log, train
from tav_core.atomic import replacing
from tav_core.demo.world import SIZE, VOCABULARY, random_scene
from tav_core.demo.world.render import snapshot
from tav_core.demo.world.scene import LONGEST

HELD_OUT_SEED = 20_000_000  # seeds from here on belong to the held-out motions that the reader learns from
_CHUNK = 250  # pictures in a file


@dataclass(frozen=True)
class ReaderConfig:
    """Knobs of the training."""

    minutes: float = 60.0
    batch: int = 32
    held_out: int = 4_000  # pictures of held-out motions
    held_out_share: float = 0.35  # of each batch
    decay_share: float = 0.4  # of the run, at its end, over which the learning rate falls
    learning_rate: float = 2e-3  # of AdamW
    muon_learning_rate: float = 4e-3  # of matrices and convolutions
    joint_weight: float = 0.2  # of the distance in pixels
    average_decay: float = 0.998
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """images: (b, 3, 128, 128) in [-1, 1]. joints: (b, j, 2) in pixels. words: (b, 5) indices into VOCABULARY.
    named: (b,) bool, pictures whose action the caption names exactly."""

    images: Tensor
    joints: Tensor
    words: Tensor
    named: Tensor


@dataclass(frozen=True)
class Pictures:
    """Arrays as in PictureSet, without masks."""

    pictures: NDArray[np.uint8]
    joints: NDArray[np.float32]
    words: NDArray[np.uint8]


def draw_held_out(folder: Path, count: int) -> Pictures:
    """Pictures of held-out motions. Those that an earlier run has drawn are read."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, count, _CHUNK):
        file = folder / f"{start:06}.npz"
        if not file.exists():
            arrays = _draw(range(HELD_OUT_SEED + start, HELD_OUT_SEED + min(count, start + _CHUNK)))
            with replacing(file, folder / "part.npz") as part:  # np.savez adds the suffix where it is missing
                np.savez(part, **arrays)
        parts.append(dict(np.load(file)))
    return Pictures(**{key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


def _draw(seeds: range) -> dict[str, NDArray]:
    pictures, joints, numbers = [], [], []
    for seed in seeds:
        scene, words = random_scene(seed, held_out=True)
        shot = snapshot(scene, words, float(np.random.default_rng((7, seed)).integers(LONGEST)))
        pictures.append(shot.picture)
        joints.append(np.float32(shot.joints))
        numbers.append([VOCABULARY[kind].index(word) for kind, word in words.items()])
    return dict(pictures=np.stack(pictures), joints=np.stack(joints), words=np.array(numbers, np.uint8))


def make_batch(pictures: PictureSet, held_out: Pictures, rng: np.random.Generator, config: ReaderConfig) -> Batch:
    """Pictures of both kinds, every other one mirrored, most of them as a decoder might leave them."""
    unnamed = round(config.batch * config.held_out_share)
    first, second = (
        rng.integers(len(pictures), size=config.batch - unnamed),
        rng.integers(len(held_out.pictures), size=unnamed),
    )
    images, joints, words = (
        torch.from_numpy(np.concatenate([getattr(pictures, key)[first], getattr(held_out, key)[second]]))
        for key in ("pictures", "joints", "words")
    )
    images = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    images[::2] = images[::2].flip(-1)
    joints[::2, :, 0] = SIZE - joints[::2, :, 0]
    named = torch.arange(config.batch) < config.batch - unnamed
    images = degrade(images, rng).contiguous(memory_format=torch.channels_last)
    return Batch(images, joints, words.long(), named)


def degrade(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur, loss of detail, false colours and noise, each on some of the pictures (b, 3, 128, 128) in [-1, 1]."""
    images = images.clone()
    chosen = torch.from_numpy(rng.random((4, len(images))) < np.array([0.3, 0.3, 0.4, 0.4])[:, None])
    sigma, side = rng.uniform(0.4, 1.3), int(rng.integers(56, 112))
    if chosen[0].any():
        images[chosen[0]] = blurred(images[chosen[0]], sigma)
    if chosen[1].any():
        small = functional.interpolate(images[chosen[1]], size=side, mode="bilinear", antialias=True)
        images[chosen[1]] = functional.interpolate(small, size=SIZE, mode="bicubic")
    coarse = torch.randn(len(images), 3, SIZE // 8, SIZE // 8) * rng.uniform(0.0, 0.12)
    images += chosen[2][:, None, None, None] * functional.interpolate(coarse, size=SIZE, mode="bilinear")
    images += chosen[3][:, None, None, None] * torch.randn_like(images) * rng.uniform(0.0, 0.12)
    return images.clamp(-1, 1)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, sigma in pixels."""
    kernel = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 7)
    rows = functional.conv2d(functional.pad(images, (3, 3, 0, 0), mode="replicate"), kernel, groups=3)
    columns = functional.pad(rows, (0, 0, 3, 3), mode="replicate")
    return functional.conv2d(columns, kernel.transpose(2, 3), groups=3)


def reader_loss(reading: Reading, batch: Batch, grid: Tensor, config: ReaderConfig) -> Tensor:
    """Cross-entropy of the words and of the heat maps, and the distance of the joints."""
    total = torch.zeros(())
    for number, kind in enumerate(VOCABULARY):
        counted = batch.named if kind == "action" else torch.ones_like(batch.named)
        total = total + functional.cross_entropy(reading.words[kind][counted], batch.words[counted, number])
    joints = batch.joints.clamp(0, SIZE)
    distance = (joints[:, :, None] - grid).square().sum(dim=-1)  # (b, j, 32 * 32)
    target = (-distance / (2 * 4.0**2)).softmax(dim=-1)
    total = total - (target * reading.heat).sum(dim=-1).mean()
    return total + config.joint_weight * functional.smooth_l1_loss(reading.joints, joints, beta=2.0)


def measure(reader: Reader, test: PictureSet, count: int, degraded: bool = False) -> dict[str, float]:
    """Share of words read, on motions that captions name, and error of joints in pixels, on those and on held-out ones
    (every other picture of the test set)."""
    count = min(count, len(test))
    frames = np.float32(test.pictures[:count]) / np.float32(255)
    if degraded:
        images = torch.from_numpy(frames).permute(0, 3, 1, 2) * 2 - 1
        frames = degrade(images, np.random.default_rng(0)).permute(0, 2, 3, 1).numpy() / 2 + 0.5
    found, joints = read(reader, frames)
    result = {}
    for number, (kind, options) in enumerate(VOCABULARY.items()):
        right = np.array([options.index(words[kind]) for words in found]) == test.words[:count, number]
        result[kind] = float(right[::2].mean())
        if kind != "action":
            result[f"{kind}_held_out"] = float(right[1::2].mean())
    for name, chosen in (("joints", slice(0, count, 2)), ("joints_held_out", slice(1, count, 2))):
        distance = np.linalg.norm(joints[chosen] - test.joints[:count][chosen], axis=-1)
        result[f"{name}_median"] = float(np.median(distance))
        result[f"{name}_mean"] = float(joint_error(joints[chosen], test.joints[:count][chosen]).mean())
    return result


def make_training(folder: Path, config: ReaderConfig) -> Training:
    """The run in `folder`: new, or from its checkpoint."""
    torch.manual_seed(config.seed)
    reader = Reader().to(memory_format=torch.channels_last).train()
    optimizers = make_optimizers([reader], config.learning_rate, config.muon_learning_rate)
    schedule = Schedule(config.minutes, config.decay_share)
    return Training(folder, dict(reader=reader), optimizers, schedule, config.average_decay, config.seed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that bundled_model.data wrote")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint.pt, log.jsonl, reader.safetensors")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint-minutes", type=float, default=2.0)
    parser.add_argument("--log-minutes", type=float, default=3.0)
    for field in fields(ReaderConfig):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=field.default)
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    config = ReaderConfig(**{field.name: getattr(args, field.name) for field in fields(ReaderConfig)})
    pictures, test = load_set(args.data, "train"), load_set(args.data, "test")
    held_out = draw_held_out(args.output / "held_out", config.held_out)
    training = make_training(args.output, config)
    reader, average = training.modules["reader"], training.averages["reader"]

    def loss() -> Tensor:
        batch = make_batch(pictures, held_out, training.rng, config)
        return reader_loss(reader(batch.images), batch, reader.grid, config)

    train(training, loss, lambda: measure(average, test, 200), args.checkpoint_minutes, args.log_minutes)
    weights = {name: weight.contiguous() for name, weight in average.state_dict().items()}
    save_file(weights, args.output / "reader.safetensors")
    for degraded in (False, True):
        record = dict(step=training.step, seconds=training.seconds, pictures=len(test), degraded=degraded)
        log(args.output / "log.jsonl", record | measure(average, test, len(test), degraded))


if __name__ == "__main__":
    main()
