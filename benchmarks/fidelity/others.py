"""From a clip to edits, ours and others' in one run: how good they are, and the seconds of the processor.

    python -m benchmarks fidelity others --directory DIRECTORY --python PYTHON [--clips 4]

DIRECTORY is a checkout of github.com/showlab/Tune-A-Video; PYTHON an interpreter with diffusers 0.11.1. All take the
same weights, clips and prompts: another coat, another place, another style. The published code is repaired where it is
broken (`published_worker.py`), takes 50 steps to invert and 50 to sample, and is asked after several numbers of tuning
steps, at the rate that is best for this model. img2img and Text2Video-Zero are those of diffusers, with 50 steps; the
latter and none of the others is given the true depth of each frame.

Everything runs on one thread. Cells that were measured before are read from benchmarks/fidelity/cells; with --tables
nothing is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from benchmarks import harness, results
from benchmarks.fidelity import stock
from benchmarks.fidelity.cells import CELLS, Cell, Cells, measure
from benchmarks.fidelity.curve import EDITED, SECONDS, row
from benchmarks.fidelity.published import STEPS, published_edits
from benchmarks.fidelity.scenes import TEST, BenchClip, bench_clips
from benchmarks.fidelity.ways import WAYS, Edited
from bundled_model.reader import READER, Reader, load_reader
from tav_core import ClipEditor, load_control, load_model
from tav_core.demo.world import caption
from tav_core.demo.world.hints import HINTS
from tav_core.models.base import DEMO_MODEL
from tav_core.presets import BUNDLED

PAUSES = (100, 500)
STRENGTHS = (0.5, 0.75)
OURS = ("published", "source branch, deflickered", "fast")
GUIDANCE = BUNDLED.sampling.guidance_scale
IMAGE_GUIDANCE = 3.0  # of img2img: found on clips of DEVELOPMENT, as is the guidance of the others
Kind = tuple[str, ...]
Edit = tuple[str, Kind, np.ndarray, tuple[float, float, float]]  # line, kind, frames (f, h, w, 3), SECONDS


class Contender(Protocol):
    """Somebody who edits clips.

    Attributes:
        lines: of the table.
    """

    @property
    def lines(self) -> list[str]: ...

    def digest(self) -> str:
        """Of what decides on the frames: 12 hexadecimal digits."""
        ...

    def edits(self, clip: BenchClip) -> Iterator[Edit]: ...


@dataclass(frozen=True)
class PublishedCode:
    where: tuple[str, str] = field(compare=False)
    rate: float = BUNDLED.tuning.learning_rate
    pauses: tuple[int, ...] = PAUSES

    @property
    def lines(self) -> list[str]:
        return [self._line(steps) for steps in self.pauses]

    def _line(self, steps: int) -> str:
        return f"published code, {steps} steps at {self.rate:g}"

    def digest(self) -> str:
        return _digest("published code", self.rate, STEPS, GUIDANCE)

    def edits(self, clip: BenchClip) -> Iterator[Edit]:
        editor = ClipEditor(load_model(), torch.from_numpy(clip.source.frames), clip.caption)
        prompts = {" ".join(kind): caption(clip.edited(kind)) for kind in EDITED}
        found, seconds = published_edits(self.where, editor, prompts, self.pauses, self.rate, guidance_scale=GUIDANCE)
        for steps in self.pauses:
            spent = seconds[str(steps)]
            for kind in EDITED:
                began = time.process_time()
                frames = editor.decode(found[f"{steps}/{' '.join(kind)}"]).numpy()
                sampling = spent[" ".join(kind)] + time.process_time() - began
                yield self._line(steps), kind, frames, (spent["tune"], spent["invert"], sampling)


@dataclass(frozen=True)
class ImageToImage:
    strength: float

    @property
    def lines(self) -> list[str]:
        return [f"img2img frame by frame, strength {self.strength:g}"]

    def digest(self) -> str:
        return _digest("img2img", self.strength, STEPS, IMAGE_GUIDANCE)

    def edits(self, clip: BenchClip) -> Iterator[Edit]:
        model, options = load_model(), dict(guidance_scale=IMAGE_GUIDANCE, steps=STEPS, seed=0)
        for kind in EDITED:
            began, prompt = time.process_time(), caption(clip.edited(kind))
            frames = stock.image_to_image(model, clip.source.frames, prompt, strength=self.strength, **options)
            yield self.lines[0], kind, frames, (0.0, 0.0, time.process_time() - began)


@dataclass(frozen=True)
class TextToVideoZero:
    @property
    def lines(self) -> list[str]:
        return ["Text2Video-Zero, true depth"]

    def digest(self) -> str:
        return _digest("Text2Video-Zero", STEPS, GUIDANCE)

    def edits(self, clip: BenchClip) -> Iterator[Edit]:
        model, control, hints = load_model(), load_control("demo-depth"), HINTS["depth"](clip.source)
        options = dict(guidance_scale=GUIDANCE, steps=STEPS, seed=0)
        for kind in EDITED:
            began = time.process_time()
            frames = stock.text_to_video_zero(model, control, hints, caption(clip.edited(kind)), **options)
            yield self.lines[0], kind, frames, (0.0, 0.0, time.process_time() - began)


@dataclass(frozen=True)
class Ours:
    way: str

    @property
    def lines(self) -> list[str]:
        return [f"ours, {self.way}"]

    def digest(self) -> str:
        return WAYS[self.way].digest()

    def edits(self, clip: BenchClip) -> Iterator[Edit]:
        edited = Edited(WAYS[self.way], DEMO_MODEL, clip)
        for kind in EDITED:
            began = time.process_time()
            frames = edited.edit(caption(clip.edited(kind)), kind).numpy()
            yield self.lines[0], kind, frames, (*edited.seconds, time.process_time() - began)


def the_others(where: tuple[str, str]) -> list[Contender]:
    """All but ours. `where`: the published code, and its Python."""
    by_image = [ImageToImage(strength) for strength in STRENGTHS]
    return [PublishedCode(where), *by_image, TextToVideoZero()]


def run(arguments: list[str]) -> str:
    """Measure what is lacking, and make the table."""
    args = _parse(arguments)
    torch.set_num_threads(1)
    clips = bench_clips(args.clips, args.num_frames, TEST)
    everybody = [*the_others((args.directory, args.python)), *(Ours(way) for way in OURS)]
    if not args.tables:
        reader = load_reader(args.reader)
        for clip in clips:
            for contender in everybody:
                for cell in fill(contender, clip, reader, args.cells):
                    print(cell, flush=True)
    wanted = {clip.seed for clip in clips}
    rows = []
    for contender in everybody:
        for line in contender.lines:
            cells = [cell for cell in cells_of(line, contender, args.num_frames, args.cells) if cell["clip"] in wanted]
            if cells:
                *measures, seconds, count = row(cells)
                rows.append([line, *measures, seconds, f"{_four(cells):.0f}", count])
    kinds = [" and ".join(kind) for kind in EDITED]
    head = ["", *kinds, "IoU", "joints, px", "first edit, s", "four edits, s", "clips"]
    return results.report(harness.machine(), results.table(head, rows))


def fill(contender: Contender, clip: BenchClip, reader: Reader | None, folder: Path) -> Iterator[Cell]:
    """The cells of a clip, each when it is kept; none where all of them are there."""
    cells = {line: cells_of(line, contender, clip.num_frames, folder) for line in contender.lines}
    if not any(kept.lacks(clip.seed, " and ".join(kind), 0) for kept in cells.values() for kind in EDITED):
        return
    for line, kind, frames, spent in contender.edits(clip):
        cell: Cell = dict(clip=clip.seed, kind=" and ".join(kind), seed=0) | measure(frames, clip, kind, reader)
        cell |= {name: round(seconds, 1) for name, seconds in zip(SECONDS, spent, strict=True)}
        cells[line].add(cell)
        yield cell | {"line": line}


def _four(cells: list[Cell]) -> float:
    """Seconds from a clip to four edits, in the mean."""
    return float(np.mean([cell[SECONDS[0]] + cell[SECONDS[1]] + 4 * cell[SECONDS[2]] for cell in cells]))


def cells_of(line: str, contender: Contender, num_frames: int, folder: Path) -> Cells:
    """The cells of a line of the table."""
    return Cells(f"others {line}", contender, DEMO_MODEL, num_frames, folder)


def _digest(*settings: object) -> str:
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--directory", default="", help="of the published code")
    parser.add_argument("--python", default="python", help="an interpreter that can run it")
    parser.add_argument("--reader", type=Path, default=READER, help="as bundled_model.train_reader writes it")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--cells", type=Path, default=CELLS, help="folder of the cells")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    return parser.parse_args(arguments)
