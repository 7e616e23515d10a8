"""A picture of one edit in several ways: a row each, a column each frame; the clip and the true edit on top.

    python -m benchmarks.fidelity.sheet --clip 3 --kind place --output docs/tuning.webp

Ways are those of `python -m benchmarks fidelity editing`; what is drawn beside a row is its name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.fidelity.scenes import KINDS, TEST, bench_clips
from benchmarks.fidelity.ways import WAYS, Edited
from tav_core import Store
from tav_core.demo.world import caption
from tav_core.models.base import DEMO_MODEL

SHOWN = ("untuned", "published", "source branch, untuned", "source branch, deflickered")
LABEL, FONT, QUALITY = 150, 0.42, 90  # pixels, of OpenCV's Hershey letters, of WebP


def main() -> None:
    """Edit one clip in all ways, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--clip", type=int, default=3, help="its number among the clips of the benchmark; odd: held out"
    )
    parser.add_argument("--kind", default="place", choices=[" and ".join(kind) for kind in KINDS])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(SHOWN), metavar="WAY")
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--store", type=Path, help="folder of tunings and inversions")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    (clip,) = bench_clips(1, args.num_frames, TEST + args.clip)
    kind = tuple(args.kind.split(" and "))
    rows = {"the clip": clip.source.frames, "the true edit": clip.edit(kind).frames}
    store = Store(args.store) if args.store else None
    for way in args.ways:
        rows[way] = Edited(WAYS[way], DEMO_MODEL, clip, store).edit(caption(clip.edited(kind)), kind).numpy()
    picture = np.concatenate([_row(name, frames) for name, frames in rows.items()])
    cv2.imwrite(str(args.output), picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    print(f"{caption(clip.words)} -> {caption(clip.edited(kind))}")


def _row(name: str, frames: np.ndarray) -> np.ndarray:
    """Frames (f, h, w, 3) in [0, 1] beside each other, with a name at the left: (h, LABEL + f w, 3) uint8."""
    pictures = np.concatenate(list((frames.clip(0, 1) * 255).round().astype(np.uint8)), axis=1)
    label = np.full((len(pictures), LABEL, 3), 255, np.uint8)
    for line, words in enumerate(name.split(", ")):
        place = (6, len(pictures) // 2 + 16 * line)
        cv2.putText(label, words, place, cv2.FONT_HERSHEY_SIMPLEX, FONT, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([label, pictures], axis=1)


if __name__ == "__main__":
    main()
