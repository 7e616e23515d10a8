"""Means with intervals: a bootstrap over clips, since edits of one clip are alike."""

from __future__ import annotations

from collections.abc import Iterable
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

    def __mul__(self, factor: float) -> Interval:
        return Interval(self.mean * factor, self.low * factor, self.high * factor)

    def __format__(self, spec: str) -> str:
        mean, low, high = (format(value, spec or ".2f") for value in (self.mean, self.low, self.high))
        return f"{mean} ({low} to {high})"

    def __str__(self) -> str:
        return format(self)


def paired_difference(cells: Iterable[Cell], others: Iterable[Cell], measure: str) -> Interval:
    """How much larger a measure is in `cells` than in `others`, over the edits that both have.

    An edit is the mean of its seeds. A way that draws nothing has one.

    Raises:
        ValueError: they have none in common.
    """
    ours, theirs = (_edits(found, measure) for found in (cells, others))
    differences = [(clip, value - theirs[clip, kind]) for (clip, kind), value in ours.items() if (clip, kind) in theirs]
    return _bootstrap(_clip_means(differences))


def mean_over_clips(cells: Iterable[Cell], measure: str) -> Interval:
    """The mean of a measure, each clip counted alike, and each of its edits.

    Raises:
        ValueError: there is no cell.
    """
    return _bootstrap(_clip_means((clip, value) for (clip, _), value in _edits(cells, measure).items()))


def _edits(cells: Iterable[Cell], measure: str) -> dict[tuple[int, str], float]:
    """By clip and kind, the mean of all seeds."""
    found: dict[tuple[int, str], list[float]] = {}
    for cell in cells:
        found.setdefault((cell["clip"], cell["kind"]), []).append(cell[measure])
    return {edit: float(np.mean(values)) for edit, values in found.items()}


def _clip_means(values: Iterable[tuple[int, float]]) -> np.ndarray:
    found: dict[int, list[float]] = {}
    for clip, value in values:
        found.setdefault(clip, []).append(value)
    return np.array([np.mean(values) for values in found.values()])


def _bootstrap(values: np.ndarray) -> Interval:
    if not len(values):
        raise ValueError("There are no cells to average: measure some first.")
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    return Interval(float(values.mean()), *(float(q) for q in np.quantile(means, (0.025, 0.975))))
