"""Train the UNet and the text encoder of the bundled model, on the latents of its autoencoder.

    python -m bundled_model.train_text_to_image --data build/data --vae build/autoencoder/vae --output build/unet

The model predicts v (arXiv:2202.00512) under Stable Diffusion's betas rescaled to zero terminal SNR
(arXiv:2305.08891): the last step then carries no trace of the picture. The latents of all pictures are encoded once and
kept beside the checkpoint; the run goes on from both under the same command. At the end, `model` holds a diffusers
pipeline folder with the averaged weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from bundled_model import text_encoder as text
from bundled_model.data import PictureSet, load_set
from bundled_model.muon import make_optimizers
from bundled_model.run import Schedule, Training, log, train
from bundled_model.train_autoencoder import CHANNELS, load_batch
from tav_core.atomic import write_text
from tav_core.demo import world
from tav_core.demo.world.scene import random_words

SIDE = world.SIZE // 8
WIDTH = 64  # of the text embeddings
UNET_CONFIG: dict[str, Any] = dict(
    sample_size=SIDE,
    in_channels=CHANNELS,
    out_channels=CHANNELS,
    block_out_channels=(64, 96, 160),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    cross_attention_dim=WIDTH,
    attention_head_dim=4,  # the number of heads, as in Stable Diffusion 1
    norm_num_groups=8,
)
SCHEDULER_CONFIG: dict[str, Any] = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)
_ENCODED_AT_ONCE, _KEPT_AT_ONCE = 64, 1024  # pictures


@dataclass(frozen=True)
class TextToImageConfig:
    """Knobs of the training."""

    minutes: float = 180.0
    batch: int = 24
    decay_share: float = 0.25  # of the run, at its end, over which the learning rate falls
    learning_rate: float = 1e-3  # of AdamW
    muon_learning_rate: float = 3e-3  # of matrices and convolutions
    average_decay: float = 0.999
    text_dropout: float = 0.1
    timestep_power: float = 1.5  # above 1, timesteps are drawn more often at high noise, where the words decide
    figure_weight: float = 1.0  # of the figure's error at no noise; it falls to 1 at full noise
    word_steps: int = 400  # in which the text encoder learns to carry words, before all else
    seed: int = 0


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: PictureSet, folder: Path) -> np.ndarray:
    """Scaled latents of all pictures, (n, 16, 16, 16) float16, from `folder`/latents.npy; what it lacks is encoded.

    The file belongs to one autoencoder: under other weights it is begun anew.
    """
    path, note = folder / "latents.npy", folder / "latents.json"
    shape, owner = (len(pictures), CHANNELS, SIDE, SIDE), _fingerprint(vae)
    done = json.loads(note.read_text()) if note.exists() else {}
    begun = path.exists() and done.get("vae") == owner and done.get("shape") == list(shape)
    latents = np.lib.format.open_memmap(path, "r+" if begun else "w+", np.float16, shape)
    for start in range(done["encoded"] if begun else 0, len(pictures), _ENCODED_AT_ONCE):
        stop = min(len(pictures), start + _ENCODED_AT_ONCE)
        images, _ = load_batch(pictures, np.arange(start, stop))
        latents[start:stop] = (vae.encode(images).latent_dist.mode() * vae.config.scaling_factor).half().numpy()
        if stop % _KEPT_AT_ONCE and stop < len(pictures):
            continue
        latents.flush()
        write_text(note, json.dumps(dict(vae=owner, shape=list(shape), encoded=stop)))
    return latents


def _fingerprint(vae: AutoencoderKL) -> str:
    digest = hashlib.sha256(str(vae.config.scaling_factor).encode())
    for weight in vae.state_dict().values():
        digest.update(weight.contiguous().numpy().tobytes())
    return digest.hexdigest()


class Objective:
    """The loss of a step: squared error of v, on latents of the data set and one wording of each one's words."""

    def __init__(
        self,
        training: Training,
        tokenizer: CLIPTokenizer,
        pictures: PictureSet,
        latents: np.ndarray,
        config: TextToImageConfig,
        bfloat16: bool,
    ):
        self.training, self.pictures, self.latents, self.config = training, pictures, latents, config
        self.tokenizer, self.bfloat16 = tokenizer, bfloat16
        self.scheduler = DDIMScheduler(**SCHEDULER_CONFIG)
        self.ids: dict[str, Tensor] = {}

    def tokens(self, captions: list[str]) -> Tensor:
        for caption in set(captions) - self.ids.keys():
            self.ids[caption] = text.tokenize(self.tokenizer, [caption])[0]
        return torch.stack([self.ids[caption] for caption in captions])  # (b, 77)

    def __call__(self) -> Tensor:
        rng, batch = self.training.rng, self.config.batch
        chosen = rng.integers(len(self.latents), size=batch)
        clean = torch.from_numpy(np.float32(self.latents[chosen])).contiguous(memory_format=torch.channels_last)
        captions = [text.random_caption(self.pictures.words_of(i), rng, self.config.text_dropout) for i in chosen]
        noise = torch.randn_like(clean)
        timesteps = (1000 * (1 - torch.rand(batch) ** self.config.timestep_power)).long().clamp(0, 999)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            states = self.training.modules["text_encoder"](self.tokens(captions)).last_hidden_state
            predicted = self.training.modules["unet"](noisy, timesteps, states).sample
        error = (predicted.float() - self.scheduler.get_velocity(clean, noise, timesteps)).square()
        return (self.weights(chosen, timesteps) * error).mean()

    def weights(self, chosen: np.ndarray, timesteps: Tensor) -> Tensor:
        """Weights of latents, (b, 1, 16, 16): more where the figure is, the less noise the more.

        At high noise the place of the figure is not known, and such weights would make the model draw larger figures.
        """
        masks = torch.from_numpy(self.pictures.mask(chosen))[:, None].float()
        covered = nn.functional.max_pool2d(masks, 8)
        gain = (self.config.figure_weight - 1) * (1 - timesteps.float() / 1000)
        return 1 + gain[:, None, None, None] * covered


@torch.no_grad()
def sample_pictures(
    objective: Objective, vae: AutoencoderKL, captions: list[str], steps: int = 20, guidance: float = 4.0, seed: int = 1
) -> np.ndarray:
    """Pictures of captions by the averaged weights, (n, 128, 128, 3) uint8: DDIM with classifier-free guidance."""
    averages, scheduler = objective.training.averages, DDIMScheduler(**SCHEDULER_CONFIG, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    states = averages["text_encoder"](objective.tokens(captions + [""] * len(captions))).last_hidden_state
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn((len(captions), CHANNELS, SIDE, SIDE), generator=generator)
    for timestep in scheduler.timesteps:
        positive, negative = averages["unet"](torch.cat([latents, latents]), timestep, states).sample.chunk(2)
        velocity = negative + guidance * (positive - negative)
        latents = scheduler.step(velocity, timestep, latents).prev_sample
    pictures = vae.decode(latents / vae.config.scaling_factor).sample
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def save_samples(objective: Objective, vae: AutoencoderKL, columns: int = 6) -> dict[str, Any]:
    """Write samples.png: each figure, once, under other words of chance. Their captions go to samples.txt."""
    rng = np.random.default_rng(5)
    figures = [figure for figure in world.VOCABULARY["figure"] for _ in range(columns // 2)]
    captions = [world.caption(random_words(rng) | {"figure": figure}) for figure in figures]
    pictures = sample_pictures(objective, vae, captions)
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    folder = objective.training.folder
    cv2.imwrite(str(folder / "samples.png"), np.concatenate(rows)[..., ::-1])
    (folder / "samples.txt").write_text("\n".join(captions) + "\n")
    return {}


def make_training(folder: Path, config: TextToImageConfig, start: Path | None) -> tuple[Training, CLIPTokenizer]:
    """The run in `folder`: new, from the weights in `start`, or from its checkpoint; and the tokenizer."""
    torch.manual_seed(config.seed)
    tokenizer = text.build_tokenizer(folder / "model" / "tokenizer")
    encoder, unet = text.build_text_encoder(tokenizer, WIDTH), UNet2DConditionModel(**UNET_CONFIG)
    if start is not None:
        for name, module in (("unet", unet), ("text_encoder", encoder)):
            module.load_state_dict(type(module).from_pretrained(start / name).float().state_dict())
    elif not (folder / "checkpoint.pt").exists():
        taught = text.teach_words(encoder, tokenizer, config.word_steps, config.seed)
        log(folder / "log.jsonl", dict(words_taught=taught))
    unet = unet.to(memory_format=torch.channels_last)
    modules = dict(unet=unet.train(), text_encoder=encoder.train())
    optimizers = make_optimizers(modules.values(), config.learning_rate, config.muon_learning_rate)
    schedule = Schedule(config.minutes, config.decay_share, warmup_steps=300)
    return Training(folder, modules, optimizers, schedule, config.average_decay, config.seed), tokenizer


def export(training: Training, vae_folder: Path) -> None:
    """Write the pipeline folder `model`: averaged weights in float16, the autoencoder, the schedule."""
    model = training.folder / "model"
    for name, module in training.averages.items():
        module.half().save_pretrained(model / name)
        module.float()
    AutoencoderKL.from_pretrained(vae_folder).half().save_pretrained(model / "vae")
    DDIMScheduler(**SCHEDULER_CONFIG).save_pretrained(model / "scheduler")
    write_index(model)


def write_index(folder: Path) -> None:
    """Write model_index.json, from which diffusers loads the folder as a pipeline."""
    classes = dict(
        text_encoder=["transformers", "CLIPTextModel"],
        tokenizer=["transformers", "CLIPTokenizer"],
        unet=["diffusers", "UNet2DConditionModel"],
        vae=["diffusers", "AutoencoderKL"],
        scheduler=["diffusers", "DDIMScheduler"],
    )
    index = {"_class_name": "StableDiffusionPipeline"} | classes
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that bundled_model.data wrote")
    parser.add_argument("--vae", type=Path, required=True, help="trained autoencoder, a diffusers folder")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint.pt, log.jsonl, samples.png, model/")
    parser.add_argument("--start", type=Path, help="pipeline folder to begin from, such as a milestone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="autocast; pays where the CPU multiplies bfloat16")
    parser.add_argument("--checkpoint-minutes", type=float, default=2.5)
    parser.add_argument("--log-minutes", type=float, default=5.0)
    parser.add_argument("--export", action="store_true", help="train no further: write model/ from the checkpoint")
    for field in fields(TextToImageConfig):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=field.default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    config = TextToImageConfig(**{field.name: getattr(args, field.name) for field in fields(TextToImageConfig)})
    vae = AutoencoderKL.from_pretrained(args.vae).eval()
    pictures = load_set(args.data, "train")
    latents = encode_pictures(vae, pictures, args.output)  # before the clock of the run starts
    training, tokenizer = make_training(args.output, config, args.start)
    objective = Objective(training, tokenizer, pictures, latents, config, args.bfloat16)
    if not args.export:
        measure = partial(save_samples, objective, vae)
        train(training, objective, measure, args.checkpoint_minutes, args.log_minutes)
    export(training, args.vae)


if __name__ == "__main__":
    main()
