"""Measure the bundled model as a text-to-image model: its autoencoder's round trip, and how well it follows words.

    python -m benchmarks fidelity demo_model [--model DIR] [--prompts 200] [--sheet sheet.png]

Gates: 32 dB or more on unseen scenes; 95 % or more of random prompts show the right shape, colour and background.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness
from benchmarks.fidelity.clips import draw_clip
from benchmarks.results import report, table
from bundled_model.measure import sample_images, words_followed
from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.models.base import DEMO_MODEL, BaseModel, load_model
from tav_core.models.codec import decode_latents, encode_frames
from tav_core.viz.figures import contact_sheet, save_picture

SEED = 2024  # the training draws from other seeds
BATCH = 50  # pictures


@torch.no_grad()
def round_trip(model: BaseModel, count: int) -> np.ndarray:
    """PSNR in dB of encode-decode, one value a scene."""
    rng = np.random.default_rng(SEED)
    frames = draw_clip([world.random_scene(rng) for _ in range(count)])
    decoded = decode_latents(model, encode_frames(model, frames))
    return -10 * (decoded - frames).square().mean(dim=(1, 2, 3)).log10().numpy()


def sample_prompts(model: BaseModel, scenes: list[world.Scene], args: argparse.Namespace) -> torch.Tensor:
    """A picture of each scene's caption: (n, h, w, 3) in [0, 1]."""
    prompts, sampling = [scene.caption for scene in scenes], (args.num_inference_steps, args.guidance_scale)
    batches = [prompts[i : i + BATCH] for i in range(0, len(prompts), BATCH)]
    return torch.cat([sample_images(model, batch, *sampling, SEED + i) for i, batch in enumerate(batches)])


def save_sheet(file: Path, pictures: torch.Tensor) -> None:
    """Write the first 64 pictures, eight a row."""
    rows = {f"row {i // 8 + 1}": pictures[i : i + 8] for i in range(0, min(64, len(pictures)), 8)}
    save_picture(file, contact_sheet(rows))


def options_of(words: list[str]) -> argparse.Namespace:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--num-inference-steps", type=int, default=40)
    parser.add_argument("--guidance-scale", type=float, default=5.0)
    parser.add_argument("--sheet", type=Path, help="write the first 64 pictures here, eight a row")
    return parser.parse_args(words)


def measure(args: argparse.Namespace) -> dict[str, float]:
    """PSNR of the round trip in dB, and the shares of words that pictures follow. Missed prompts go to stderr."""
    model, rng = load_model(args.model), np.random.default_rng(SEED + 1)
    psnr = round_trip(model, args.scenes)
    scenes = [world.random_scene(rng) for _ in range(args.prompts)]
    pictures = sample_prompts(model, scenes, args)
    readings = [judge.read(picture) for picture in pictures.numpy()]
    pairs = zip(readings, scenes, strict=True)
    missed = Counter(f"{s.caption} -> {r.colour} {r.shape} on {r.background}" for r, s in pairs if not r.shows(s))
    for line in missed:
        print("missed:", line, file=sys.stderr)
    if args.sheet:
        save_sheet(args.sheet, pictures)
    return {"mean": float(psnr.mean()), "worst": float(psnr.min())} | words_followed(readings, scenes)


def run(options: list[str]) -> str:
    args = options_of(options)
    figures = measure(args)
    rows = [
        [f"round trip of {args.scenes} scenes, {which}", f"{figures.pop(which):.1f} dB"] for which in ("mean", "worst")
    ]
    rows += [[f"{args.prompts} prompts, right {word}", f"{share:.1%}"] for word, share in figures.items()]
    return report(harness.machine(), table(["measure", "value"], rows))
