"""1,000 clips with four edits each on 64 GPUs, on a simulated clock: python -m benchmarks.batch_plan

Rows are handed out by the code that hands them out to workers. Nothing runs; the seconds are assumptions: 10 minutes
of tuning and one of sampling, as arXiv:2212.11565 says of 32 frames on an A100 (section 4), half a minute to load a
model, and 297 MB of tuned weights of Stable Diffusion 1.5, which are stored once and read by each further worker that
takes the clip.
"""

from __future__ import annotations

import random

from tav_batch.handout import Group
from tav_batch.simulate import Costs, Simulation, simulate

CLIPS, EDITS, GPUS = 1000, 4, 64
TUNE, SAMPLE, LOAD = 600.0, 60.0, 30.0  # seconds
STORED = 297e6  # bytes of a tuning
MODELS = 4  # where a table names several


def groups(models: int = 1) -> list[Group]:
    """The plan: clips in the order of their models."""
    by_model = sorted(range(CLIPS), key=lambda clip: clip % models)
    return [
        Group(f"clip {clip}", f"model {clip % models}", tuple(range(clip * EDITS, (clip + 1) * EDITS)))
        for clip in by_model
    ]


def lengths(spread: float) -> list[float]:
    """How much longer than usual the work on each clip takes, between 1 / spread and spread."""
    chance = random.Random(0)
    return [spread ** chance.uniform(-1, 1) for _ in range(CLIPS)]


def run(spread: float = 1.0, bandwidth: float = float("inf"), models: int = 1, gpus: int = GPUS) -> Simulation:
    """One plan on the simulated clock."""
    factors = lengths(spread)

    def seconds(row: int) -> tuple[float, float]:
        factor = factors[row // EDITS]
        return factor * TUNE, factor * SAMPLE

    return simulate(groups(models), seconds, gpus, Costs(LOAD, STORED, bandwidth))


def line(label: str, found: Simulation, gpus: int = GPUS) -> str:
    """A row of the table: hours, and shares of the GPUs' time."""
    total = gpus * found.seconds
    shares = (found.loading, found.store, found.idle)
    return f"| {label} | {found.seconds / 3600:.2f} | " + " | ".join(f"{100 * s / total:.1f} %" for s in shares) + " |"


def main() -> None:
    print("| | hours | loading | store | idle at the end |\n|---|---|---|---|---|")
    print(line("equal clips, a store without limit", run()))
    print(line("store of 1 GB/s for all", run(bandwidth=1e9)))
    print(line("store of 100 MB/s for all", run(bandwidth=1e8)))
    print(line("store of 25 MB/s for all", run(bandwidth=2.5e7)))
    print(line("clips of 1/4 to 4 times the length", run(spread=4.0)))
    print(line(f"{MODELS} models", run(models=MODELS)))
    print(line("512 GPUs", run(gpus=512), 512))


if __name__ == "__main__":
    main()
