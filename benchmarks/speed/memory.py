"""Peak memory of a sampling step and of a tuning step above what the weights take, each in a process of its own.

python -m benchmarks speed memory [--frames 4] [--latent 32] [--dtype float32] [--device cpu]
"""

from __future__ import annotations

from benchmarks import harness
from benchmarks.results import report, table
from benchmarks.speed import unet
from benchmarks.speed.unet import Case

HEAD = ["case", "step", "weights, GiB", "peak, GiB", "above, GiB"]
BUILDERS = {"image UNet": unet.image_step, "video UNet": unet.video_step}


def measure(case: Case, kind: str, which: str) -> list[str]:
    """A row of the table."""
    before, peak = unet.peak_memory(BUILDERS[which], case, harness.KINDS[kind])
    sizes = (f"{size / 2**30:.2f}" for size in (before, peak, peak - before))
    return [str(case), f"{kind}, {which}", *sizes]


def run(options: list[str]) -> str:
    args = unet.parser(__name__, __doc__).parse_args(options)
    lacking = (harness.SELECTIVE, "image UNet")
    pairs = [(kind, which) for kind in harness.KINDS for which in BUILDERS if (kind, which) != lacking]
    rows = [measure(case, *pair) for case in unet.cases(args) for pair in pairs]
    return report(harness.machine(args.device), table(HEAD, rows))
