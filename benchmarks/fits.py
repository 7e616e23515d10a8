"""Which clips fit which cards: the planner's peaks for a UNet of Stable Diffusion 1.5's shape. Nothing is run.

python -m benchmarks.fits [--frames 8 16 24] [--pixels 256 512] [--dtype float16]

The least card has a GiB beside the tensors, for the driver, the kernels' buffers and what the allocator cannot use.
"""

from __future__ import annotations

import torch

from benchmarks import harness
from tav_core import estimate_memory, inflate

CARDS = (4, 6, 8, 12, 16, 24, 32, 48, 80)  # GiB
SOURCE_BRANCH = 2**30


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--pixels", type=int, nargs="+", default=[256, 512])
    parser.set_defaults(frames=[8, 16, 24], dtype="float16")
    args = parser.parse_args()
    video_unet = inflate(harness.shape().to_empty(device="cpu"))
    rows = []
    for pixels in args.pixels:
        for frames in args.frames:
            size = dict(num_frames=frames, height=pixels // 8, width=pixels // 8, dtype=getattr(torch, args.dtype))
            peaks = [estimate_memory(video_unet, config, **size).peak for config in harness.KINDS.values()]
            rows.append([f"{frames} of {pixels} x {pixels}", *map(cell, peaks)])
    print(harness.machine())
    print(harness.table([f"frames, {args.dtype}", *harness.KINDS], rows))


def cell(peak: int) -> str:
    """Peak of the tensors and the least card, in GiB."""
    card = next((str(card) for card in CARDS if peak + SOURCE_BRANCH <= card * 2**30), f"above {CARDS[-1]}")
    return f"{peak / 2**30:.1f} → {card} GB"


if __name__ == "__main__":
    main()
