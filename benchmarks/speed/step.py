"""Time one sampling step and one tuning step against the image UNet on the same frames.

    python -m benchmarks speed step [--frames 4] [--latent 32] [--dtype float32] [--device cpu] [--rounds 2]

The image UNet has no selective checkpointing; beside that row it runs without any.
"""

from __future__ import annotations

import sys

import torch

from benchmarks import harness
from benchmarks.harness import Config
from benchmarks.results import report, table
from benchmarks.speed import unet
from benchmarks.speed.unet import Case, Run
from tav_core.memory.tracker import MemoryTracker

HEAD = ["case", "step", "image UNet, s", "video UNet, s", "ratio", "ratio of FLOPs"]


def builders(case: Case, config: Config) -> dict[str, Run]:
    """A step of the baseline and one of ours."""
    return {"image": unet.image_step(case, config), "video": unet.video_step(case, config)}


def flops(step: Run) -> int:
    with MemoryTracker() as tracker:
        step()
    return tracker.flops


def measure(case: Case, kind: str, rounds: int) -> list[str]:
    """A row of the table."""
    runs = builders(case, harness.KINDS[kind])
    arithmetic = {name: flops(step) for name, step in runs.items()}
    seconds = harness.interleaved(runs, rounds, case.device, warm=True)
    print(f"{kind}: {seconds}", file=sys.stderr)
    ratios = [spent["video"] / spent["image"] for spent in (seconds, arithmetic)]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [str(case), kind, *(f"{s:.3f}" for s in seconds.values()), *(f"{ratio:.2f}" for ratio in ratios)]


def run(options: list[str]) -> str:
    args = unet.parser(__name__, __doc__).parse_args(options)
    rows = [measure(case, kind, args.rounds) for case in unet.cases(args) for kind in harness.KINDS]
    return report(harness.machine(args.device), table(HEAD, rows))
