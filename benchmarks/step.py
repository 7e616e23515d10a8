"""Time one sampling step and one tuning step against the image UNet on the same frames.

The image UNet knows no selective checkpointing, and is run without any beside it.

python -m benchmarks.step [--frames 4] [--latent 32] [--dtype float32] [--device cpu] [--rounds 5]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from benchmarks import harness
from benchmarks.harness import Case, Config
from tav_core.memory.tracker import MemoryTracker


def builders(case: Case, config: Config) -> dict[str, Callable[[], None]]:
    """The baseline and ours, ready to be called."""
    return {"image": harness.image_step(case, config), "video": harness.video_step(case, config)}


def flops(run: Callable[[], None]) -> int:
    with MemoryTracker() as ledger:
        run()
    return ledger.flops


def measure(case: Case, rounds: int) -> list[list[str]]:
    rows = []
    for kind, config in harness.KINDS.items():
        runs = builders(case, config)
        arithmetic = {name: flops(run) for name, run in runs.items()}
        seconds = harness.interleaved(runs, rounds, case.device, warm=True)
        ratios = (seconds["video"] / seconds["image"], arithmetic["video"] / arithmetic["image"])
        print(f"{kind}: {seconds}", file=sys.stderr)
        rows.append([str(case), kind, *(f"{s:.3f}" for s in seconds.values()), *(f"{ratio:.2f}" for ratio in ratios)])
        del runs
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return rows


def main() -> None:
    args = harness.parser(__doc__).parse_args()
    rows = [row for case in harness.cases(args) for row in measure(case, args.rounds)]
    print(harness.machine(args.device))
    print(harness.table(["case", "step", "image UNet, s", "video UNet, s", "ratio", "ratio of FLOPs"], rows))


if __name__ == "__main__":
    main()
