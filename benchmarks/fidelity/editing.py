"""How near edits come to the true ones, in each way to edit, on the drawn world.

    python -m benchmarks fidelity editing [--ways published untuned] [--clips 20] [--seeds 0 1 2]

Each clip is edited five times: another coat, figure, place, style, and coat and place at once. Half of the clips show
motions that no training picture shows. strict and loose are the shares of frames that the judge of pixels calls right
(`tav_core/demo/judge.py`); IoU, dB and flicker are against the true edit; joints are the distance in pixels from
the true ones as a reader net sees them; words is the share of frames in which it finds the new words.

Intervals are 95 %, by a bootstrap over clips. Cells that were measured before are read from benchmarks/fidelity/cells;
with --tables nothing is measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks import harness, results
from benchmarks.fidelity.cells import CELLS, Cell, Cells, fill
from benchmarks.fidelity.intervals import mean_over_clips, paired_difference
from benchmarks.fidelity.scenes import DEVELOPMENT, KINDS, TEST, bench_clips
from benchmarks.fidelity.ways import WAYS
from bundled_model.reader import READER, load_reader
from tav_core import Store
from tav_core.models.base import DEMO_MODEL

NAMES = [" and ".join(kind) for kind in KINDS]
MEASURES = {
    "iou": "IoU",
    "figure_psnr": "figure, dB",
    "rest_psnr": "rest, dB",
    "joints": "joints, px",
    "flicker": "flicker",
}
RIGHT = ("strict", "loose")
POINTS = [f"{name}, points" for name in RIGHT]
PAIRS = (
    ("published", "untuned"),
    ("fresh noise", "fresh noise, untuned"),
    ("source branch", "source branch, untuned"),
    ("published", "fresh noise"),
    ("published", "without sparse-causal attention"),
    ("published", "without temporal attention"),
    ("published", "all weights tuned"),
)


def run(arguments: list[str]) -> str:
    """Measure what is lacking, and make the tables."""
    args = _parse(arguments)
    torch.set_num_threads(1)
    first = DEVELOPMENT if args.development else TEST
    clips = bench_clips(args.clips, args.num_frames, first)
    if not args.tables:
        reader, store = load_reader(args.reader), Store(args.store) if args.store else None
        for seed in args.seeds:
            for name in args.ways:
                began = time.monotonic()
                for cell in fill(name, clips, args.model, reader, seed=seed, store=store, folder=args.cells):
                    print(f"{name} {cell} {time.monotonic() - began:.0f} s", flush=True)
                    began = time.monotonic()
    wanted = {clip.seed for clip in clips}
    measured = {
        name: [
            cell for cell in Cells(name, WAYS[name], args.model, args.num_frames, args.cells) if cell["clip"] in wanted
        ]
        for name in args.ways
    }
    return results.report(harness.machine(), tables({name: cells for name, cells in measured.items() if cells}))


def tables(measured: dict[str, list[Cell]]) -> str:
    """Three tables: frames that are right, the other measures, and differences between ways."""
    right = [
        [name, *(_right(_of(cells, kind)) for kind in NAMES), str(_clips(cells))] for name, cells in measured.items()
    ]
    return "\n\n".join(
        [
            "Frames that are right, strict / loose, %:",
            results.table(["way", *NAMES, "clips"], right),
            "Motions that training knows, then held-out motions:",
            results.table(["way", *(head for head in MEASURES.values())], _others(measured)),
            "Differences with their 95 % intervals, swaps of the figure apart:",
            results.table(["ways", "motions", *POINTS, *MEASURES.values(), "joints, ratio"], _differences(measured)),
        ]
    )


def _of(cells: Iterable[Cell], kind: str) -> list[Cell]:
    return [cell for cell in cells if cell["kind"] == kind]


def _moving(cells: Iterable[Cell], held_out: bool) -> list[Cell]:
    return [cell for cell in cells if (cell["clip"] % 2 == 1) == held_out]


def _clips(cells: Iterable[Cell]) -> int:
    return len({cell["clip"] for cell in cells})


def _right(cells: list[Cell]) -> str:
    if not cells:
        return "-"
    return " / ".join(f"{100 * mean_over_clips(cells, name).mean:.0f}" for name in RIGHT)


def _others(measured: dict[str, list[Cell]]) -> list[list[str]]:
    rows = []
    for name, cells in measured.items():
        parts = [_moving(cells, held_out) for held_out in (False, True)]
        means = [
            " / ".join(f"{mean_over_clips(part, measure).mean:.2f}" if part else "-" for part in parts)
            for measure in MEASURES
        ]
        rows.append([name, *means])
    return rows


def _differences(measured: dict[str, list[Cell]]) -> list[list[str]]:
    rows = []
    for one, other in PAIRS:
        if one in measured and other in measured:
            for motions, held_out in (("known", False), ("held out", True)):
                ours, theirs = (_shaped(_moving(measured[name], held_out)) for name in (one, other))
                if ours and theirs:
                    rows.append([f"{one} - {other}", motions, *_difference(ours, theirs)])
    return rows


def _difference(ours: list[Cell], theirs: list[Cell]) -> list[str]:
    """In points for shares of frames; the joints also as a share of theirs, over the clips of both."""
    clips = {cell["clip"] for cell in ours} & {cell["clip"] for cell in theirs}
    ours, theirs = ([cell for cell in cells if cell["clip"] in clips] for cells in (ours, theirs))
    points = [paired_difference(ours, theirs, measure) * 100 for measure in RIGHT]
    measures = [paired_difference(ours, theirs, measure) for measure in MEASURES]
    ratio = mean_over_clips(ours, "joints").mean / mean_over_clips(theirs, "joints").mean
    return [*(f"{found:.0f}" for found in points), *map(str, measures), f"{ratio:.2f}"]


def _shaped(cells: Iterable[Cell]) -> list[Cell]:
    """Without swaps of the figure, whose joints lie elsewhere."""
    return [cell for cell in cells if cell["kind"] != "figure"]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="WAY")
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--reader", type=Path, default=READER, help="as bundled_model.train_reader writes it")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--development", action="store_true", help="the clips on which settings are found")
    parser.add_argument("--store", type=Path, help="folder of tunings and inversions, for other ways too")
    parser.add_argument("--cells", type=Path, default=CELLS, help="folder of the cells")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    return parser.parse_args(arguments)
