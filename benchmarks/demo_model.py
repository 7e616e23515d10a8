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

from bundled_model.measure import sample_images, words_followed
from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.models.base import DEMO_MODEL, load_model
from tav_core.models.codec import decode_latents, encode_frames
from tav_core.viz.figures import contact_sheet, save_picture

SEED = 2024  # the training draws from other seeds


@torch.no_grad()
def round_trip(model, count: int) -> np.ndarray:
    """PSNR in dB of encode-decode, one value a scene."""
    rng = np.random.default_rng(SEED)
    frames = torch.from_numpy(np.stack([world.draw(world.random_scene(rng))[0] for _ in range(count)]))
    decoded = decode_latents(model, encode_frames(model, frames))
    return -10 * (decoded - frames).square().mean(dim=(1, 2, 3)).log10().numpy()


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
    prompts, sampling = [scene.caption for scene in scenes], (args.num_inference_steps, args.guidance_scale)
    batches = [prompts[i : i + 50] for i in range(0, len(prompts), 50)]
    pictures = torch.cat([sample_images(model, batch, *sampling, SEED + i) for i, batch in enumerate(batches)])
    readings = [judge.read(picture) for picture in pictures.numpy()]
    print(json.dumps({"words_followed": words_followed(readings, scenes), "prompts": len(scenes)}))
    pairs = zip(readings, scenes, strict=True)
    missed = Counter(f"{s.caption} -> {r.colour} {r.shape} on {r.background}" for r, s in pairs if not r.shows(s))
    for line in missed:
        print("missed:", line)
    if args.sheet:
        rows = {f"row {i // 8 + 1}": pictures[i : i + 8] for i in range(0, min(64, len(pictures)), 8)}
        save_picture(args.sheet, contact_sheet(rows))


if __name__ == "__main__":
    main()
