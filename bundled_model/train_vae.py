"""Train the autoencoder of the bundled demo model on pictures of the drawn world.

    python -m bundled_model.train_vae --output build/demo-model

The loss is the mean squared error plus a small KL term, as in latent diffusion (arXiv:2112.10752), plus a term that
holds three of the four latent channels near the brightness and the colour of their patch. Latents of Stable Diffusion
are close to linear in colour by themselves; those of an autoencoder this small are not, and then two bright objects
may differ from their background in opposite directions, and edits lose the place. Most steps train on crops whose
corner is on the latent grid (multiples of 8 pixels); the last quarter trains on whole pictures, so that the group norms
end with the statistics that they have in use.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from tav_core.demo import shapes as world

CONFIG = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    sample_size=world.SIZE,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(16, 32, 64, 64),
    layers_per_block=1,
    norm_num_groups=4,
)

# Brightness and two differences of colour, orthogonal. Brightness counts more, so that place is settled before colour.
COLOUR_AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
COLOUR_AXES = COLOUR_AXES / COLOUR_AXES.norm(dim=1, keepdim=True) * torch.tensor([[1.5], [1.0], [1.0]])


def pictures(rng: np.random.Generator, count: int, crop: int) -> torch.Tensor:
    """Random scenes, cropped on the latent grid: (count, 3, crop, crop) in [-1, 1]."""
    batch = []
    for _ in range(count):
        picture, _ = world.draw(world.random_scene(rng))
        top, left = 8 * rng.integers(0, (world.SIZE - crop) // 8 + 1, size=2)
        batch.append(picture[top : top + crop, left : left + crop])
    images = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2) * 2 - 1
    return images.contiguous(memory_format=torch.channels_last)


def colour_gap(latents: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Distance of the first three channels from the mean colour of each patch; edges, far off, count less (Huber)."""
    means = torch.einsum("kc,bchw->bkhw", COLOUR_AXES, torch.nn.functional.avg_pool2d(images, 8))
    return torch.nn.functional.smooth_l1_loss(latents[:, :3], means, beta=0.1)


@torch.no_grad()
def round_trip_psnr(vae: AutoencoderKL, seed: int, count: int) -> float:
    """Mean PSNR in dB of encode-decode over unseen whole pictures, each clipped to [0, 1]."""
    images = pictures(np.random.default_rng(seed), count, world.SIZE)
    decoded = torch.cat([vae.decode(vae.encode(x).latent_dist.mode()).sample for x in images.split(8)])
    error = ((decoded.clamp(-1, 1) - images) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, seed: int, count: int) -> float:
    """1 / standard deviation of the latents, the `scaling_factor` that gives them unit variance."""
    images = pictures(np.random.default_rng(seed), count, world.SIZE)
    return float(1 / torch.cat([vae.encode(x).latent_dist.mode() for x in images.split(8)]).std())


def train(
    steps: int,
    seed: int,
    learning_rate: float,
    kl_weight: float,
    colour_weight: float,
    start: Path | None,
    decoder_only: bool,
) -> AutoencoderKL:
    """Run all updates, from `start` or from new weights."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(start) if start else AutoencoderKL(**CONFIG)
    vae = vae.to(memory_format=torch.channels_last)
    trained = [vae.decoder, vae.post_quant_conv] if decoder_only else [vae]
    parameters = [parameter for part in trained for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    rise = min(0.75, max(0.05, 2 / steps))  # neither part is empty, even with few steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=rise)
    began = time.monotonic()
    for step in range(1, steps + 1):
        whole = step > 0.75 * steps
        images = pictures(rng, 4 if whole else 12, world.SIZE if whole else 64)
        loss, error, gap = losses(vae, images, kl_weight, colour_weight)
        vae.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == steps:
            record = dict(step=step, mse=error.item(), colour_gap=gap.item(), seconds=round(time.monotonic() - began))
            print(json.dumps(record | dict(psnr=round_trip_psnr(vae, 10_000 + seed, 32))), flush=True)
    return vae


def losses(
    vae: AutoencoderKL, images: torch.Tensor, kl_weight: float, colour_weight: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss, and of its terms the mean squared error and `colour_gap`."""
    posterior = vae.encode(images).latent_dist
    error = (vae.decode(posterior.sample()).sample - images).square().mean()
    gap = colour_gap(posterior.mean, images)
    loss = error + kl_weight * posterior.kl().mean() / posterior.mean[0].numel() + colour_weight * gap
    return loss, error, gap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, required=True, help="model folder; the autoencoder is written to its vae/"
    )
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--kl-weight", type=float, default=2e-5)
    parser.add_argument("--colour-weight", type=float, default=0.02)
    parser.add_argument(
        "--decoder-only", action="store_true", help="train the decoder alone, so that latents stay the same"
    )
    parser.add_argument("--start", type=Path, help="an autoencoder folder to continue from")
    args = parser.parse_args()
    if args.decoder_only and not args.start:
        parser.error("--decoder-only continues from an autoencoder: give one with --start")
    weights = args.kl_weight, args.colour_weight
    vae = train(args.steps, args.seed, args.learning_rate, *weights, args.start, args.decoder_only)
    if not args.decoder_only:
        vae.register_to_config(scaling_factor=latent_scale(vae, args.seed, 256))
    vae.save_pretrained(args.output / "vae")
    print(json.dumps(dict(psnr=round_trip_psnr(vae, 99, 256), scaling_factor=vae.config.scaling_factor)))


if __name__ == "__main__":
    main()
