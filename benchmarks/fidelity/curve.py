"""How good an edit is after so many tuning steps, and what it took: strict, loose and seconds along one tuning.

    python -m benchmarks fidelity curve [--steps 0 10 25 50 100 200 500] [--rates 5e-4] [--clips 8]

Each clip is tuned once at each rate. At the steps named the tuning pauses, and the clip is edited as it stands: another
coat, another place, another style, each way by itself. A pause changes nothing of the steps after it: noise and
timesteps come from a generator of the tuning's own, so that N steps of a long tuning are a tuning of N steps.

Seconds are those of the processor, for one edit of one clip: tuning up to there, inversion where the way has one, and
sampling. Intervals are 95 %, by a bootstrap over clips. Cells that were measured before are read from
benchmarks/fidelity/cells; with --tables nothing is measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import harness, results
from benchmarks.fidelity.cells import CELLS, Cell, Cells, measure
from benchmarks.fidelity.intervals import mean_over_clips
from benchmarks.fidelity.scenes import DEVELOPMENT, TEST, BenchClip, bench_clips
from benchmarks.fidelity.ways import WAYS, Way
from bundled_model.reader import READER, Reader, load_reader
from tav_core import ClipEditor, TuningConfig, load_model
from tav_core.demo.world import caption
from tav_core.models.base import DEMO_MODEL
from tav_core.presets import BUNDLED

STEPS = (0, 10, 25, 50, 100, 200, 500)
EDITED = (("coat",), ("place",), ("style",))
CURVES = ("published", "source branch")
SECONDS = ("tune_seconds", "invert_seconds", "edit_seconds")


def run(arguments: list[str]) -> str:
    """Measure what is lacking, and make the table."""
    args = _parse(arguments)
    torch.set_num_threads(1)
    clips = bench_clips(args.clips, args.num_frames, DEVELOPMENT if args.development else TEST)
    if not args.tables:
        reader = load_reader(args.reader)
        for clip in clips:
            for rate in args.rates:
                config = replace(BUNDLED.tuning, steps=max(args.steps), learning_rate=rate)
                curve = Curve(clip, config, args.ways, args.model, args.cells)
                for cell in curve.fill(set(args.steps), reader):
                    print(cell, flush=True)
    wanted = {clip.seed for clip in clips}
    rows = []
    for name in args.ways:
        for rate in args.rates:
            for steps in sorted(args.steps):
                cells = cells_of(name, steps, rate, args.model, args.num_frames, args.cells)
                if found := [cell for cell in cells if cell["clip"] in wanted]:
                    rows.append([name, f"{rate:g}", str(steps), *row(found)])
    head = ["way", "rate", "steps", *(" and ".join(kind) for kind in EDITED), "IoU", "joints, px", "seconds", "clips"]
    return results.report(harness.machine(), results.table(head, rows))


def row(cells: list[Cell]) -> list[str]:
    """Strict / loose in % by kind of edit; IoU and joint error with their intervals; seconds; clips."""
    parts = [[cell for cell in cells if cell["kind"] == " and ".join(kind)] for kind in EDITED]
    right = [
        " / ".join(f"{100 * mean_over_clips(part, name).mean:.0f}" for name in ("strict", "loose")) if part else "-"
        for part in parts
    ]
    seconds = sum(mean_over_clips(cells, name).mean for name in SECONDS)
    measures = [str(mean_over_clips(cells, name)) for name in ("iou", "joints")]
    return [*right, *measures, f"{seconds:.0f}", str(len({cell["clip"] for cell in cells}))]


class Curve:
    """One tuning of one clip, which pauses for edits.

    Arguments:
        clip: the clip.
        config: of the tuning.
        ways: names of WAYS that are edited at each pause.
        model: folder or name of the base model.
        folder: of the cells.
    """

    def __init__(self, clip: BenchClip, config: TuningConfig, ways: list[str], model: str, folder: Path):
        self.clip, self.config, self.ways, self.model, self.folder = clip, config, ways, model, folder

    def fill(self, pauses: set[int], reader: Reader | None) -> Iterator[Cell]:
        """Each cell that is lacking, when it is kept."""
        if not any(self._lacking(name, steps) for name in self.ways for steps in pauses):
            return
        editor = ClipEditor(load_model(self.model), torch.from_numpy(self.clip.source.frames), self.clip.caption)
        updates, spent = editor.tune(self.config), 0.0
        for steps in range(max(pauses) + 1):
            if steps:
                began = time.process_time()
                next(updates)
                spent += time.process_time() - began
            if steps in pauses:
                for name in self.ways:
                    yield from self._edited(editor, name, steps, spent, reader)

    def _lacking(self, name: str, steps: int) -> list[tuple[str, ...]]:
        cells = self._cells(name, steps)
        return [kind for kind in EDITED if cells.lacks(self.clip.seed, " and ".join(kind), self.config.seed)]

    def _cells(self, name: str, steps: int) -> Cells:
        rate = self.config.learning_rate
        return cells_of(name, steps, rate, self.model, self.clip.num_frames, self.folder)

    def _edited(self, editor: ClipEditor, name: str, steps: int, spent: float, reader: Reader | None) -> Iterator[Cell]:
        """The edits of one way by the weights as they are."""
        way, lacking, took = WAYS[name], self._lacking(name, steps), [spent, 0.0, 0.0]
        if lacking and way.start_from == "inversion":
            began = time.process_time()
            for _ in editor.invert(way.inversion):
                pass
            took[1] = time.process_time() - began
        for kind in lacking:
            began = time.process_time()
            prompt, config = caption(self.clip.edited(kind)), way.sampling_of(kind)
            *_, last = editor.edit(prompt, config, start_from=way.start_from, **way.options)
            frames = editor.decode(last.latents).numpy()
            took[2] = time.process_time() - began
            cell: Cell = dict(clip=self.clip.seed, kind=" and ".join(kind), seed=self.config.seed)
            cell |= measure(frames, self.clip, kind, reader)
            cell |= {name: round(seconds, 1) for name, seconds in zip(SECONDS, took, strict=True)}
            self._cells(name, steps).add(cell)
            yield cell | {"way": name, "steps": steps}


def cells_of(name: str, steps: int, rate: float, model: str, num_frames: int, folder: Path) -> Cells:
    """The cells of a way after so many steps at a rate; 0 steps are the image model, at whatever rate."""
    tuning = replace(BUNDLED.tuning, steps=steps, learning_rate=rate) if steps else None
    way: Way = replace(WAYS[name], tuning=tuning)
    return Cells(f"curve {name} {steps} steps" + (f" at {rate:g}" if steps else ""), way, model, num_frames, folder)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--ways", nargs="+", choices=CURVES, default=list(CURVES), metavar="WAY")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--rates", type=float, nargs="+", default=[BUNDLED.tuning.learning_rate])
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--reader", type=Path, default=READER, help="as bundled_model.train_reader writes it")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--development", action="store_true", help="the clips on which settings are found")
    parser.add_argument("--cells", type=Path, default=CELLS, help="folder of the cells")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    return parser.parse_args(arguments)
