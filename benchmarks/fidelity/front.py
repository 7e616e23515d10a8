"""A picture of score over seconds: a line for each way of ours by tuning steps, a point for each of the others.

    python -m benchmarks.fidelity.front --output docs/score_over_seconds.png

It reads the cells of `python -m benchmarks fidelity curve` and `others`, over the clips that all of them have. Seconds
are those of the processor, from a clip to its first edit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks import harness
from benchmarks.fidelity import curve, others
from benchmarks.fidelity.cells import CELLS, Cell
from benchmarks.fidelity.curve import SECONDS
from benchmarks.fidelity.intervals import Interval, mean_over_clips
from tav_core.models.base import DEMO_MODEL
from tav_core.presets import BUNDLED

MEASURES = {"strict": "strictly right, % of frames", "loose": "loosely right, % of frames"}
STYLES = {"source branch": ("C0", "o"), "published": ("C1", "s")}


@dataclass(frozen=True)
class Point:
    """One setting: seconds to the first edit, and its score in %."""

    label: str
    seconds: float
    scores: dict[str, Interval]


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--cells", type=Path, default=CELLS)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    ours, theirs = read(args.num_frames, args.cells)
    draw(ours, theirs).savefig(args.output, dpi=110)
    print(f"{len(ours)} lines, {len(theirs)} points. {harness.machine()}")


def read(num_frames: int, folder: Path) -> tuple[dict[str, list[Point]], list[Point]]:
    """Our lines, by way, and the points of the others."""
    rate = BUNDLED.tuning.learning_rate
    found = {
        (way, steps): list(curve.cells_of(way, steps, rate, DEMO_MODEL, num_frames, folder))
        for way in curve.CURVES
        for steps in curve.STEPS
    }
    contenders = [*others.the_others(("", "")), others.Ours("fast")]
    other = {line: list(others.cells_of(line, who, num_frames, folder)) for who in contenders for line in who.lines}
    clips = _in_all([*found.values(), *other.values()])
    lines = {
        way: [_point(str(steps), cells, clips) for (name, steps), cells in found.items() if name == way and cells]
        for way in curve.CURVES
    }
    return lines, [_point(line, cells, clips) for line, cells in other.items() if cells]


def _in_all(groups: Iterable[list[Cell]]) -> set[int]:
    """The clips that every group with a cell has."""
    return set.intersection(*({cell["clip"] for cell in cells} for cells in groups if cells))


def _point(label: str, cells: Iterable[Cell], clips: set[int]) -> Point:
    chosen = [cell for cell in cells if cell["clip"] in clips]
    seconds = sum(mean_over_clips(chosen, name).mean for name in SECONDS)
    return Point(label, seconds, {name: mean_over_clips(chosen, name) * 100 for name in MEASURES})


def draw(lines: dict[str, list[Point]], points: Sequence[Point]) -> Figure:
    """Two panels, strict and loose, with 95 % intervals over clips."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    for axes, (measure, title) in zip(figure.subplots(1, 2), MEASURES.items(), strict=True):
        for way, found in lines.items():
            colour, marker = STYLES[way]
            _bars(axes, found, measure, colour, f"{marker}-", f"ours, {way}, after 0 to 500 tuning steps")
            for point in found:
                place = (point.seconds, point.scores[measure].mean)
                axes.annotate(point.label, place, (0, 6), textcoords="offset points", fontsize=8, ha="center")
        for index, point in enumerate(points):
            _bars(axes, [point], measure, f"C{index + 2}", "D", point.label)
        axes.set(
            xscale="log", xlabel="seconds of one core, from the clip to its first edit", title=title, ylim=(0, 105)
        )
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    return figure


def _bars(axes: Any, points: Sequence[Point], measure: str, colour: str, style: str, label: str) -> None:
    scores = [point.scores[measure] for point in points]
    errors = [[max(s.mean - s.low, 0) for s in scores], [max(s.high - s.mean, 0) for s in scores]]
    at = [point.seconds for point in points], [s.mean for s in scores]
    axes.errorbar(*at, yerr=errors, fmt=style, color=colour, label=label, capsize=2, elinewidth=0.7)


if __name__ == "__main__":
    main()
