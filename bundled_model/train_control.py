"""Train a ControlNet of the bundled model, on the drawn world's truth: depth, pose or edges.

    python -m bundled_model.train_control depth --data build/data --latents build/unet --output build/depth

The UNet is frozen. The network is a copy of its first half (arXiv:2302.05543), which begins by adding nothing. Hints
are drawn from the pictures' seeds while it trains. At the end `control` holds a diffusers folder in float16.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler
from torch import Tensor, nn

from bundled_model import text_encoder as text
from bundled_model.data import PictureSet, load_set, picture_of
from bundled_model.muon import make_optimizers
from bundled_model.run import Schedule, Training, train
from bundled_model.train_text_to_image import SCHEDULER_CONFIG
from tav_core import load_model
from tav_core.demo.world import VOCABULARY
from tav_core.demo.world.drawing import disparity_map
from tav_core.demo.world.hints import depth_picture, pose_hints
from tav_core.demo.world.render import snapshot
from tav_core.models.base import DEMO_MODEL, BaseModel
from tav_core.video.hints import canny

EMBEDDING_CHANNELS = (16, 32, 48, 64)  # of the hint, at full size, half, a quarter and an eighth


@dataclass(frozen=True)
class ControlConfig:
    """Knobs of the training."""

    minutes: float = 60.0
    batch: int = 16
    decay_share: float = 0.4  # of the run, at its end, over which the learning rate falls
    learning_rate: float = 2e-3  # of AdamW
    muon_learning_rate: float = 3e-3  # of matrices and convolutions
    figure_weight: float = 3.0  # of the figure's error; the hint says at any noise where it is
    average_decay: float = 0.998
    text_dropout: float = 0.3  # so that the hint alone says what it says
    seed: int = 0


def depth_of(pictures: PictureSet, index: int) -> np.ndarray:
    """The hint of a picture of the training set, (h, w, 3) in [0, 1]."""
    return depth_picture(disparity_map(snapshot(*picture_of("train", index))))


def pose_of(pictures: PictureSet, index: int) -> np.ndarray:
    return pose_hints(pictures.joints[index, None])[0]


def canny_of(pictures: PictureSet, index: int) -> np.ndarray:
    """Edges of the picture in any coat and style: an edit that changes them is to follow the edges of the clip."""
    scene, words, time = picture_of("train", index)
    rng = np.random.default_rng((11, index))
    changed = {kind: str(rng.choice(VOCABULARY[kind])) for kind in ("coat", "style")}
    picture = torch.from_numpy(snapshot(scene, words | changed, time).picture)[None] / 255
    return canny(picture)[0].numpy()


HINTS: dict[str, Callable[[PictureSet, int], np.ndarray]] = {"depth": depth_of, "pose": pose_of, "canny": canny_of}


class Objective:
    """The loss of a step: squared error of v by the frozen UNet with what the network adds."""

    def __init__(
        self,
        training: Training,
        model: BaseModel,
        pictures: PictureSet,
        latents: np.ndarray,
        kind: str,
        config: ControlConfig,
    ):
        self.training, self.model, self.pictures, self.latents = training, model, pictures, latents
        self.hint, self.config = HINTS[kind], config
        self.scheduler = DDIMScheduler(**SCHEDULER_CONFIG)

    def __call__(self) -> Tensor:
        rng, batch = self.training.rng, self.config.batch
        chosen = rng.integers(len(self.latents), size=batch)
        clean = torch.from_numpy(np.float32(self.latents[chosen])).contiguous(memory_format=torch.channels_last)
        captions = [text.random_caption(self.pictures.words_of(i), rng, self.config.text_dropout) for i in chosen]
        hints = torch.from_numpy(np.stack([self.hint(self.pictures, int(i)) for i in chosen])).permute(0, 3, 1, 2)
        noise, timesteps = torch.randn_like(clean), torch.randint(0, 1000, (batch,))
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        with torch.no_grad():
            states = self.model.text_encoder(text.tokenize(self.model.tokenizer, captions)).last_hidden_state
        down, middle = self.training.modules["control"](noisy, timesteps, states, hints, return_dict=False)
        residuals = dict(down_block_additional_residuals=down, mid_block_additional_residual=middle)
        predicted = self.model.unet(noisy, timesteps, states, **residuals).sample
        error = (predicted - self.scheduler.get_velocity(clean, noise, timesteps)).square()
        masks = torch.from_numpy(self.pictures.mask(chosen))[:, None].float()
        weights = 1 + (self.config.figure_weight - 1) * nn.functional.max_pool2d(masks, 8)
        return (weights * error).mean()


def make_training(folder: Path, model: BaseModel, config: ControlConfig) -> Training:
    """The run in `folder`: new, or from its checkpoint."""
    torch.manual_seed(config.seed)
    control = ControlNetModel.from_unet(model.unet, conditioning_embedding_out_channels=EMBEDDING_CHANNELS)
    control.requires_grad_(True).to(memory_format=torch.channels_last)
    control.controlnet_cond_embedding.conv_out.reset_parameters()  # one zero layer behind it is enough
    optimizers = make_optimizers([control], config.learning_rate, config.muon_learning_rate)
    schedule = Schedule(config.minutes, config.decay_share, warmup_steps=100)
    return Training(folder, {"control": control.train()}, optimizers, schedule, config.average_decay, config.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=HINTS)
    parser.add_argument("--data", type=Path, required=True, help="folder that bundled_model.data wrote")
    parser.add_argument("--latents", type=Path, required=True, help="folder of train_text_to_image, with latents.npy")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint.pt, log.jsonl, control/")
    parser.add_argument("--model", default=DEMO_MODEL, help="pipeline folder; by default the one that ships")
    parser.add_argument("--threads", type=int, default=1)
    for field in fields(ControlConfig):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=field.default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    config = ControlConfig(**{field.name: getattr(args, field.name) for field in fields(ControlConfig)})
    model: Any = load_model(args.model)
    model.unet.to(memory_format=torch.channels_last)
    latents = np.load(args.latents / "latents.npy", mmap_mode="r")
    training = make_training(args.output, model, config)
    objective = Objective(training, model, load_set(args.data, "train"), latents, args.kind, config)
    train(training, objective, dict, checkpoint_minutes=2.5, log_minutes=2.5)
    training.averages["control"].half().save_pretrained(args.output / "control")


if __name__ == "__main__":
    main()
