"""Which clips fit which cards: estimated peaks for a UNet of Stable Diffusion 1.5's shape. No step is run.

    python -m benchmarks speed fits [--frames 8 16 24] [--pixels 256 512] [--dtype float16]

The smallest card has a GiB beside the tensors, for the driver, the kernels' buffers and what the allocator cannot use.
"""

from __future__ import annotations

from benchmarks import harness
from benchmarks.results import report, table
from benchmarks.speed import unet

CARDS = (4, 6, 8, 12, 16, 24, 32, 48, 80)  # GiB
BESIDE_TENSORS = 2**30  # bytes


def run(options: list[str]) -> str:
    parser = unet.parser(__name__, __doc__)
    parser.add_argument("--pixels", type=int, nargs="+", default=[256, 512])
    parser.set_defaults(frames=[8, 16, 24], dtype="float16", device="cpu")
    args = parser.parse_args(options)
    rows = []
    for pixels in args.pixels:
        args.latent = pixels // 8
        for case in unet.cases(args):
            peaks = [case.estimate(config).peak for config in harness.KINDS.values()]
            rows.append([f"{case.frames} of {pixels} x {pixels}", *map(cell, peaks)])
    return report(harness.machine(), table([f"frames, {args.dtype}", *harness.KINDS], rows))


def cell(peak: int) -> str:
    """Peak of the tensors and the smallest card, in GiB."""
    card = next((str(card) for card in CARDS if peak + BESIDE_TENSORS <= card * 2**30), f"above {CARDS[-1]}")
    return f"{peak / 2**30:.1f} → {card} GB"
