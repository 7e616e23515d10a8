"""The memory of a step as `tav_core.estimate_memory` has it, against what was measured.

    python -m benchmarks speed estimate [--frames 4] [--latent 32] [--dtype float32] [--device cpu]

Memory is compared above the weights, and as the whole peak of the process, where what was resident before the first
step counts for the weights.
"""

from __future__ import annotations

from benchmarks import harness
from benchmarks.results import report, table
from benchmarks.speed import unet
from tav_core import MemoryEstimate

HEAD = [
    "case", "step", "above weights, MiB: estimated", "measured", "error", "peak, MiB: estimated", "measured", "error",
]  # fmt: skip


def cells(estimate: MemoryEstimate, measured: tuple[float, float]) -> list[str]:
    """Of a row: both comparisons."""
    before, peak = measured
    above = estimate.moments + estimate.activations
    return [*_compared(above, peak - before), *_compared(above + before, peak)]


def _compared(estimated: float, measured: float) -> list[str]:
    return [f"{estimated / 2**20:.0f}", f"{measured / 2**20:.0f}", f"{estimated / measured - 1:+.1%}"]


def run(options: list[str]) -> str:
    args = unet.parser(__name__, __doc__).parse_args(options)
    rows = [
        [str(case), kind, *cells(case.estimate(config), unet.peak_memory(unet.video_step, case, config))]
        for case in unet.cases(args)
        for kind, config in harness.KINDS.items()
    ]
    return report(harness.machine(args.device), table(HEAD, rows))
