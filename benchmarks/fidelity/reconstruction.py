"""How near the inverted clip comes to the clip when it is sampled again, beside the autoencoder's round trip, in dB.

    python -m benchmarks fidelity reconstruction [--clips 20] [--store DIR]

Each clip is tuned, inverted and sampled again without guidance: as published, under the empty prompt; and exactly,
under its caption, as the demo does it. "lost" is what this is below the round trip.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness, results
from benchmarks.fidelity.scenes import TEST, BenchClip, bench_clips
from tav_core import ClipEditor, InversionConfig, Store, load_model
from tav_core.demo.run import RECONSTRUCTION
from tav_core.metrics import psnr
from tav_core.models.base import DEMO_MODEL
from tav_core.presets import BUNDLED

HEAD = ["clips", "round trip, dB", "published, dB", "lost, mean", "lost, most", "exact, dB", "lost, mean", "lost, most"]


def run(arguments: list[str]) -> str:
    """Measure and make the table: known motions, held-out ones."""
    args = _parse(arguments)
    torch.set_num_threads(1)
    store = Store(args.store) if args.store else None
    rows = {clip: decibels(clip, args.model, store) for clip in bench_clips(args.clips, args.num_frames, TEST)}
    parts = {"known motions": False, "held-out motions": True}
    table = [
        [name, *row(found for clip, found in rows.items() if clip.held_out == held_out)]
        for name, held_out in parts.items()
    ]
    return results.report(harness.machine(), results.table(HEAD, table))


def decibels(clip: BenchClip, model: str, store: Store | None) -> tuple[float, float, float]:
    """Of the round trip, of the published reconstruction and of the exact one, against the clip."""
    editor = ClipEditor(load_model(model), torch.from_numpy(clip.source.frames), clip.caption, store=store)
    for _ in editor.tune(BUNDLED.tuning):
        pass
    round_trip = editor.decode(editor.latents)
    published = _reconstructed(editor, BUNDLED.inversion, "")
    exact = _reconstructed(editor, RECONSTRUCTION, clip.caption)
    first, second, third = (psnr(frames.numpy(), clip.source.frames) for frames in (round_trip, published, exact))
    print(f"{clip.seed}: round trip {first:.1f} dB, published {second:.1f}, exact {third:.1f}", flush=True)
    return first, second, third


def row(found: Iterable[tuple[float, float, float]]) -> list[str]:
    """Means, and what the two reconstructions lose in the mean and at most."""
    round_trip, *ways = np.array(list(found)).T
    cells = [f"{round_trip.mean():.1f}"]
    for way in ways:
        lost = round_trip - way
        cells += [f"{way.mean():.1f}", f"{lost.mean():.2f}", f"{lost.max():.2f}"]
    return cells


def _reconstructed(editor: ClipEditor, config: InversionConfig, prompt: str) -> torch.Tensor:
    for _ in editor.invert(config, prompt):
        pass
    *_, last = editor.reconstruct(prompt)
    return editor.decode(last.latents)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--store", type=Path, help="folder of tunings and inversions")
    return parser.parse_args(arguments)
