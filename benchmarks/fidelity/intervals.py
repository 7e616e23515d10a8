"""Means with intervals: a bootstrap over clips, since edits of one clip are alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.fidelity.cells import Cell

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def mean_over_clips(cells: Iterable[Cell], measure: str) -> Interval:
    """The mean of a measure, each clip counted alike.

    Raises:
        ValueError: there is no cell.
    """
    return _bootstrap(_by_clip(cells, lambda cell: cell[measure]))


def paired_difference(cells: Iterable[Cell], others: Iterable[Cell], measure: str) -> Interval:
    """How much larger a measure is in `cells` than in `others`, over the edits and seeds that both have.

    Raises:
        ValueError: they have none in common.
    """
    theirs = {_edit(cell): cell[measure] for cell in others}
    common = [cell for cell in cells if _edit(cell) in theirs]
    return _bootstrap(_by_clip(common, lambda cell: cell[measure] - theirs[_edit(cell)]))


def _edit(cell: Cell) -> tuple[int, str, int]:
    return cell["clip"], cell["kind"], cell["seed"]


def _by_clip(cells: Iterable[Cell], value: Callable[[Cell], float]) -> np.ndarray:
    found: dict[int, list[float]] = {}
    for cell in cells:
        found.setdefault(cell["clip"], []).append(value(cell))
    return np.array([np.mean(values) for values in found.values()])


def _bootstrap(values: np.ndarray) -> Interval:
    if not len(values):
        raise ValueError("There are no cells to average: measure some first.")
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    return Interval(float(values.mean()), *(float(q) for q in np.quantile(means, (0.025, 0.975))))
