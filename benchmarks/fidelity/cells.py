"""Results by cell: one edit of one clip in one way with one seed. A run goes on where another stopped.

A line of JSON a cell, in a file for each way. A cell belongs to the model's weights and to the way's settings: under
others it is measured anew, and its old line is dropped when the file is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.fidelity.scenes import KINDS, BenchClip
from benchmarks.fidelity.ways import WAYS, Edited, Way
from bundled_model.reader import Reader, joint_error, read
from tav_core import Store
from tav_core.atomic import write_text
from tav_core.demo.judge import Scores, judge
from tav_core.demo.world import caption
from tav_core.models.base import ASSETS, DEMO_MODEL

CELLS = Path(__file__).with_name("cells")
Cell = dict[str, Any]


def model_digest(model: str) -> str:
    """Of all weights of a model folder: 12 hexadecimal digits."""
    folder = ASSETS / "demo-model" if model == DEMO_MODEL else Path(model)
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


class Digested(Protocol):
    def digest(self) -> str:
        """Of all settings: 12 hexadecimal digits."""
        ...


class Cells:
    """The cells of one way, in `folder`/<way>.jsonl.

    Attributes:
        stamp: what a cell must have to be of this model, these settings and this length.
    """

    def __init__(self, name: str, way: Digested, model: str, num_frames: int, folder: Path = CELLS):
        self.file = folder / f"{name.replace(', ', '-').replace(' ', '-')}.jsonl"
        self.stamp = dict(model=model_digest(model), settings=way.digest(), num_frames=num_frames)
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        kept = [cell for cell in map(json.loads, lines) if self.stamp.items() <= cell.items()]
        self._cells = {_place(cell): cell for cell in kept}

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._cells.values())

    def lacks(self, clip: int, kind: str, seed: int) -> bool:
        return (clip, kind, seed) not in self._cells

    def add(self, cell: Cell) -> None:
        self._cells[_place(cell)] = cell | self.stamp
        ordered = [self._cells[place] for place in sorted(self._cells)]
        write_text(self.file, "".join(json.dumps(cell) + "\n" for cell in ordered))


def _place(cell: Cell) -> tuple[int, str, int]:
    return cell["clip"], cell["kind"], cell["seed"]


def fill(
    name: str,
    clips: Iterable[BenchClip],
    model: str,
    reader: Reader | None,
    *,
    kinds: Iterable[tuple[str, ...]] = KINDS,
    seed: int = 0,
    store: Store | None = None,
    way: Way | None = None,
    folder: Path = CELLS,
) -> Iterator[Cell]:
    """Measure the cells that are lacking, one after the other.

    Arguments:
        name: of the way, of WAYS or of `way`.
        reader: reads words and joints; None to leave these out.
        way: a way that is not among WAYS.

    Yields:
        Each new cell, when it is kept.
    """
    way = way or WAYS[name]
    for clip in clips:
        cells = Cells(name, way, model, clip.num_frames, folder)
        lacking = [kind for kind in kinds if cells.lacks(clip.seed, " and ".join(kind), seed)]
        if not lacking:
            continue
        edited = Edited(way.with_seed(seed), model, clip, store)
        for kind in lacking:
            frames = edited.edit(caption(clip.edited(kind)), kind).numpy()
            cell = dict(clip=clip.seed, kind=" and ".join(kind), seed=seed) | measure(frames, clip, kind, reader)
            cells.add(cell)
            yield cell


def measure(frames: np.ndarray, clip: BenchClip, kind: tuple[str, ...], reader: Reader | None) -> Cell:
    """The measures of an edit, means over its frames.

    strict, loose: share of frames that the judge of pixels calls right. iou, figure, rest, changed: its measures.
    figure_psnr, rest_psnr: dB. flicker: relative to the true edit's. joints: error in pixels. words: share of frames in
    which the reader finds the word, of each kind that the edit changes.
    """
    edit = clip.edit(kind)
    scores = judge(frames, clip.truth(kind))
    cell = {name: round(float(np.mean(getattr(scores, name))), 4) for name in _MEASURES}
    cell["flicker"] = _relative_flicker(scores)
    if reader is not None:
        words, joints = read(reader, frames)
        cell["joints"] = round(float(joint_error(joints, edit.joints).mean()), 3)
        wanted = clip.edited(kind)
        cell["words"] = round(float(np.mean([[found[k] == wanted[k] for k in kind] for found in words])), 4)
    return cell


_MEASURES = ("strict", "loose", "iou", "figure", "rest", "changed", "figure_psnr", "rest_psnr")


def _relative_flicker(scores: Scores) -> float:
    return round(float(scores.flicker.mean() / max(scores.true_flicker.mean(), 1e-6)), 3)
