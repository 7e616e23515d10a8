"""Train the autoencoder of the bundled model: 128 x 128 pictures to latents of 16 x 16 with 16 channels.

    python -m bundled_model.data --output build/data
    python -m bundled_model.train_autoencoder --data build/data --output build/autoencoder --minutes 90

The loss is the squared error, weighted on the figure's pixels, plus a small KL term as in latent diffusion
(arXiv:2112.10752), plus a term that keeps the first three channels near brightness and colour of their patch, as
latents of Stable Diffusion are: two coats then differ from a ground in the same direction. Most steps see crops on the
latent grid, half of them about the figure; the last quarter sees whole pictures, so that group norms end on the
statistics that they meet in use. The run is kept in checkpoint.pt and goes on from there under the same command; the
learning rate falls over the last part of --minutes. A run that is given more or fewer minutes adapts.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from bundled_model.data import PictureSet, load_set
from bundled_model.muon import make_optimizers
from bundled_model.run import Schedule, Training, log, train
from tav_core.demo.world import SIZE

CHANNELS = 16
CONFIG: dict[str, Any] = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=CHANNELS,
    sample_size=SIZE,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(16, 32, 64, 64),
    layers_per_block=1,
    norm_num_groups=4,
)
# Brightness and two differences of colour, orthogonal.
COLOUR_AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
COLOUR_AXES = COLOUR_AXES / COLOUR_AXES.norm(dim=1, keepdim=True) * torch.tensor([[1.5], [1.0], [1.0]])


@dataclass(frozen=True)
class AutoencoderConfig:
    """Knobs of the training. Processor time in minutes, crops in pixels."""

    minutes: float = 90.0
    batch: int = 8  # crops a step; whole pictures are a quarter as many
    crop: int = 64
    whole_share: float = 0.25  # of the run, at its end, on whole pictures
    decay_share: float = 0.35  # of the run, at its end, over which the learning rate falls
    learning_rate: float = 2e-3  # of AdamW
    muon_learning_rate: float = 4e-3  # of convolutions
    figure_weight: float = 4.0
    kl_weight: float = 5e-5
    colour_weight: float = 0.02
    average_decay: float = 0.998
    seed: int = 0


def load_batch(pictures: PictureSet, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pictures (b, 3, 128, 128) in [-1, 1] and figure masks (b, 1, 128, 128) in {0, 1}."""
    images = torch.from_numpy(pictures.pictures[chosen]).permute(0, 3, 1, 2).float() / 127.5 - 1
    masks = torch.from_numpy(pictures.mask(chosen))[:, None].float()
    return images.contiguous(memory_format=torch.channels_last), masks


def crop_batch(pictures: PictureSet, rng: np.random.Generator, count: int, crop: int) -> tuple[Tensor, Tensor]:
    """Crops whose corner lies on the latent grid, every other one about the figure. Shapes as load_batch, cut."""
    chosen = rng.integers(len(pictures), size=count)
    images, masks = load_batch(pictures, chosen)
    if crop == SIZE:
        return images, masks
    cut_images, cut_masks = [], []
    for index, number in enumerate(chosen):
        left, top = rng.uniform(0, SIZE - crop, size=2)
        if index % 2:
            left, top = pictures.joints[number].mean(axis=0) - crop / 2 + rng.uniform(-16, 16, size=2)
        row, column = (8 * round(min(max(0.0, v), SIZE - crop) / 8) for v in (top, left))
        cut_images.append(images[index, :, row : row + crop, column : column + crop])
        cut_masks.append(masks[index, :, row : row + crop, column : column + crop])
    return torch.stack(cut_images).contiguous(memory_format=torch.channels_last), torch.stack(cut_masks)


def autoencoder_loss(vae: AutoencoderKL, images: Tensor, masks: Tensor, config: AutoencoderConfig) -> Tensor:
    posterior = vae.encode(images).latent_dist
    weights = 1 + (config.figure_weight - 1) * masks
    error = (vae.decode(posterior.sample()).sample - images).square()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    return (weights * error).mean() + config.kl_weight * kl + config.colour_weight * colour_gap(posterior.mean, images)


def colour_gap(latents: Tensor, images: Tensor) -> Tensor:
    """How far the first three channels are from the mean colour of each patch; edges, far off, count little (Huber)."""
    means = torch.einsum("kc,bchw->bkhw", COLOUR_AXES, nn.functional.avg_pool2d(images, 8))
    return nn.functional.smooth_l1_loss(latents[:, :3], means, beta=0.1)


@torch.no_grad()
def round_trip(vae: AutoencoderKL, pictures: PictureSet, count: int) -> dict[str, float]:
    """PSNR in dB of encoding and decoding, the mean over pictures: all pixels, the figure's, and the figure's in
    held-out motions (every other picture of the test set)."""
    totals, figures = [], []
    for start in range(0, count, 8):
        images, masks = load_batch(pictures, np.arange(start, min(start + 8, count)))
        decoded = vae.decode(vae.encode(images).latent_dist.mode()).sample.clamp(-1, 1)
        error = ((decoded - images) / 2).square().mean(dim=1, keepdim=True)
        totals.append(error.mean(dim=(1, 2, 3)))
        figures.append((error * masks).sum(dim=(1, 2, 3)) / masks.sum(dim=(1, 2, 3)).clamp(min=1))
    total, figure = (-10 * torch.cat(errors).clamp(min=1e-9).log10() for errors in (totals, figures))
    return dict(psnr=float(total.mean()), figure=float(figure.mean()), held_out=float(figure[1::2].mean()))


@torch.no_grad()
def standardize(vae: AutoencoderKL, pictures: PictureSet, count: int = 512) -> None:
    """Give each latent channel mean 0 and standard deviation 1 over pictures; what is decoded stays the same.

    The 1 x 1 convolutions on both sides of the latents take the shift and the scale up.
    """
    batches = [load_batch(pictures, np.arange(start, start + 16))[0] for start in range(0, count, 16)]
    latents = torch.cat([vae.encode(images).latent_dist.mode() for images in batches])
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))  # (16,) each
    into, out = vae.quant_conv, vae.post_quant_conv
    into.bias[:CHANNELS] -= mean
    into.bias[:CHANNELS] /= std
    into.weight[:CHANNELS] /= std[:, None, None, None]
    into.bias[CHANNELS:] -= 2 * std.log()  # log variances
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= std[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)


def widen(trained: AutoencoderKL, vae: AutoencoderKL) -> None:
    """Copy the weights of an autoencoder with fewer latent channels; what the new channels need stays as it is."""
    old = trained.config.latent_channels
    moments = torch.cat([torch.arange(old), CHANNELS + torch.arange(old)])  # means, then log variances
    weights, new = trained.state_dict(), vae.state_dict()
    for name, weight in weights.items():
        if name.startswith("quant_conv"):
            rows = (moments[:, None], moments) if weight.ndim == 4 else moments
            new[name][rows] = weight
        elif name.startswith("encoder.conv_out"):
            new[name][moments] = weight
        elif name.startswith("decoder.conv_in") and weight.ndim == 4:
            new[name][:, :old] = weight
        elif name.startswith("post_quant_conv"):
            new[name][(slice(old),) * min(2, weight.ndim)] = weight
        else:
            new[name].copy_(weight)


def make_training(folder: Path, config: AutoencoderConfig, start: Path | None) -> Training:
    """The run in `folder`: new, from `start`, or from its checkpoint."""
    torch.manual_seed(config.seed)
    vae = AutoencoderKL(**CONFIG)
    if start is not None:
        widen(AutoencoderKL.from_pretrained(start), vae)
    vae = vae.to(memory_format=torch.channels_last).train()
    optimizers = make_optimizers([vae], config.learning_rate, config.muon_learning_rate)
    schedule = Schedule(config.minutes, config.decay_share)
    return Training(folder, dict(vae=vae), optimizers, schedule, config.average_decay, config.seed)


def step_loss(training: Training, pictures: PictureSet, config: AutoencoderConfig) -> Tensor:
    """The loss of the next step: on crops, and near the end on whole pictures."""
    whole = training.progress > 1 - config.whole_share
    count, crop = (max(1, config.batch // 4), SIZE) if whole else (config.batch, config.crop)
    batch = crop_batch(pictures, training.rng, count, crop)
    return autoencoder_loss(training.modules["vae"], *batch, config)


def export(training: Training, pictures: PictureSet) -> None:
    """Write the averaged weights as a diffusers folder, its latents standardized."""
    vae = copy.deepcopy(training.averages["vae"])
    standardize(vae, pictures)
    vae.save_pretrained(training.folder / "vae")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that bundled_model.data wrote")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint.pt, log.jsonl, and at the end vae/")
    parser.add_argument("--start", type=Path, help="autoencoder folder with fewer latent channels to begin from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint-minutes", type=float, default=2.5)
    parser.add_argument("--log-minutes", type=float, default=4.0)
    parser.add_argument("--export", action="store_true", help="train no further: write vae/ from the checkpoint")
    for field in fields(AutoencoderConfig):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=field.default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    config = AutoencoderConfig(**{field.name: getattr(args, field.name) for field in fields(AutoencoderConfig)})
    pictures, test = load_set(args.data, "train"), load_set(args.data, "test")
    training = make_training(args.output, config, args.start)
    if not args.export:
        train(
            training,
            lambda: step_loss(training, pictures, config),
            lambda: round_trip(training.averages["vae"], test, 96),
            args.checkpoint_minutes,
            args.log_minutes,
        )
    export(training, pictures)
    record = dict(step=training.step, seconds=training.seconds, pictures=len(test))
    log(args.output / "log.jsonl", record | round_trip(training.averages["vae"], test, len(test)))


if __name__ == "__main__":
    main()
