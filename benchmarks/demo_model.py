"""Measure the bundled model as a text-to-image model: its autoencoder's round trip, and how well it follows words.

    python -m benchmarks.demo_model [--model DIR] [--prompts 200] [--sheet sheet.png]

Gates: 32 dB or more on unseen scenes; 95 % or more of random prompts show the right shape, colour and background.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from tav_core.demo import judge, world
from tav_core.models import DEMO_MODEL, decode_latents, encode_frames, encode_prompts, load_model
from tav_core.schedule import NoiseSchedule, ddim_step, plain_noise
from tav_core.show import contact_sheet, save_picture

SEED = 2024  # the training draws from other seeds


@torch.no_grad()
def round_trip(model, count: int) -> np.ndarray:
    """PSNR in dB of encode-decode, one value a scene."""
    rng = np.random.default_rng(SEED)
    frames = torch.from_numpy(np.stack([world.draw(world.random_scene(rng))[0] for _ in range(count)]))
    decoded = decode_latents(model, encode_frames(model, frames))
    return -10 * (decoded - frames).square().mean(dim=(1, 2, 3)).log10().numpy()


@torch.no_grad()
def sample_images(model, prompts: list[str], num_inference_steps: int, guidance_scale: float) -> torch.Tensor:
    """One picture a prompt, by the image UNet alone: (n, h, w, 3) in [0, 1]."""
    schedule = NoiseSchedule.from_scheduler(model.scheduler)
    size = model.unet.config.sample_size
    latents = plain_noise((len(prompts), model.unet.config.in_channels, size, size), SEED)
    embeddings = encode_prompts(model, prompts + [""] * len(prompts))
    stride = schedule.stride(num_inference_steps)
    for t in schedule.timesteps(num_inference_steps):
        positive, negative = model.unet(torch.cat([latents, latents]), t, embeddings).sample.chunk(2)
        guided = negative + guidance_scale * (positive - negative)
        latents = ddim_step(latents, guided, schedule.alpha(t), schedule.alpha(t - stride), schedule.prediction_type)
    return decode_latents(model, latents[None].transpose(1, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--num-inference-steps", type=int, default=40)
    parser.add_argument("--guidance-scale", type=float, default=5.0)
    parser.add_argument("--sheet", type=Path, help="write the first 64 pictures here, eight a row")
    args = parser.parse_args()

    model = load_model(args.model)
    psnr = round_trip(model, args.scenes)
    print(
        json.dumps({"round_trip_psnr": {"mean": float(psnr.mean()), "worst": float(psnr.min()), "scenes": len(psnr)}})
    )

    rng = np.random.default_rng(SEED + 1)
    scenes = [world.random_scene(rng) for _ in range(args.prompts)]
    pictures = torch.cat(
        [
            sample_images(model, [s.caption for s in scenes[i : i + 50]], args.num_inference_steps, args.guidance_scale)
            for i in range(0, len(scenes), 50)
        ]
    )
    readings = [judge.read(picture) for picture in pictures.numpy()]
    pairs = list(zip(readings, scenes, strict=True))
    shares = {w: np.mean([getattr(r, w) == getattr(s, w) for r, s in pairs]) for w in ("shape", "colour", "background")}
    shares["all"] = np.mean([r.shows(s) for r, s in pairs])
    print(json.dumps({"words_followed": {k: float(v) for k, v in shares.items()}, "prompts": len(scenes)}))
    missed = Counter(f"{s.caption} -> {r.colour} {r.shape} on {r.background}" for r, s in pairs if not r.shows(s))
    for line in missed:
        print("missed:", line)
    if args.sheet:
        rows = {f"row {i // 8 + 1}": pictures[i : i + 8] for i in range(0, min(64, len(pictures)), 8)}
        save_picture(args.sheet, contact_sheet(rows))


if __name__ == "__main__":
    main()
