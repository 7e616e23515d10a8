"""Reports of measurements: one self-contained HTML page, and a CSV table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from torch import Tensor

from ..atomic import write_text
from ..metrics import MEASURES, format_value
from ..viz.figures import save_curves, side_by_side
from .dataset import Item
from .page import data_uri, html_page, video_tag

Figures = Mapping[str, float | None]


def write_clip_page(
    path: Path,
    source: Tensor,
    edit: Tensor,
    fps: float,
    item: Item,
    figures: Figures,
    curves: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Write the page of one edit: source and edit side by side, the figures, and their curves over time.

    Arguments:
        path: of the page.
        source, edit: (f, h, w, 3) in [0, 1].
        curves: what -> {"source" or "edit": one value a frame}.
    """
    captions = (f"source: {item.source_prompt or item.source.name}", f"edit: {item.prompt}")
    clips = dict(zip(captions, (source, edit), strict=True))
    plot = BytesIO()
    save_curves(plot, curves)
    shown = side_by_side(clips, columns=2, enlarge=max(1, 256 // source.shape[2]))
    body = [
        "<h1>An edit and its source</h1>",
        video_tag(shown, fps, "source and edit"),
        f"<p>Source: {escape(str(item.source.name))}, {escape(item.source_prompt or 'no caption given')}<br>"
        f"Edit: {escape(str(item.edit.name))}, {escape(item.prompt)}</p>",
        definitions_table(figures),
        f'<img alt="Measures of source and edit, frame by frame: {escape(", ".join(curves))}" '
        f'src="{data_uri("image/png", plot.getvalue())}">',
    ]
    write_text(path, html_page("An edit and its source", "\n".join(body)))


def write_dataset_page(path: Path, rows: Sequence[tuple[Item, Figures]], means: Figures) -> None:
    """Write the page of a data set: means with definitions, then a row for each edit."""
    names = [name for name in means if name in rows[0][1]]
    head = "".join(f"<th>{escape(MEASURES[name].label)}</th>" for name in names)
    lines = [
        f"<tr><td>{escape(item.video)}</td><td>{escape(item.kind)}</td><td>{escape(item.prompt)}</td>"
        + "".join(f'<td class="figure">{format_value(name, figures.get(name))}</td>' for name in names)
        + "</tr>"
        for item, figures in rows
    ]
    body = [
        "<h1>Edits of a data set</h1>",
        f"<p>Means over {len(rows)} edits of {len({item.source for item, _ in rows})} videos.</p>",
        definitions_table(means),
        f'<div class="wide" tabindex="0"><table><tr><th>video</th><th>edit</th><th>prompt</th>{head}</tr>',
        *lines,
        "</table></div>",
    ]
    write_text(path, html_page("Edits of a data set", "\n".join(body)))


def write_table(path: Path, rows: Sequence[tuple[Item, Figures]]) -> None:
    """Write a CSV with a row for each edit: its files and prompts, then each measure in full precision or empty."""
    names = [name for name in MEASURES if any(name in figures for _, figures in rows)]
    table = StringIO()
    writer = csv.writer(table)
    writer.writerow(["video", "kind", "source", "edit", "source_prompt", "prompt", *names])
    for item, figures in rows:
        named = [item.video, item.kind, item.source, item.edit, item.source_prompt or "", item.prompt]
        writer.writerow(named + [figures.get(name) for name in names])
    write_text(path, table.getvalue())


def definitions_table(figures: Figures) -> str:
    """An HTML table of figures, each with its unit and what it is."""
    lines = []
    for name, value in figures.items():
        measure = MEASURES[name]
        cells = (measure.unit, measure.better, measure.definition)
        lines.append(
            f'<tr><td>{escape(measure.label)}</td><td class="figure">{format_value(name, value)}</td>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    head = "<tr><th>measure</th><th>figure</th><th>unit</th><th>better</th><th>what it is</th></tr>"
    return f'<div class="wide" tabindex="0"><table>{head}{"".join(lines)}</table></div>'
