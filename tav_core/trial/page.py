"""report.html and contact_sheet.png of a trial: every edit in motion next to the clip, with its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..atomic import write_text
from ..evaluation import mean_figures
from ..evaluation.page import LARGE_STYLE, clip_strip, data_uri, html_page
from ..evaluation.report import definitions_table
from ..metrics import MEASURES, format_value
from ..video import read_video
from ..viz.figures import contact_sheet, save_picture
from .preferences import PAGE
from .record import Record
from .run import SOURCE

SHEET, REPORT = "contact_sheet.png", "report.html"
PANEL, THUMBNAIL = 256, 128  # pixels: the width of a clip in the page, and of a frame in the contact sheet
OF_AN_EDIT = ("sample", "decode", "deflicker")  # stages that every edit runs anew


def write_pages(folder: Path, records: Sequence[Record], public: Mapping[str, Any]) -> None:
    """Write the page and the contact sheet from the videos in the folder.

    Arguments:
        folder: of the trial.
        records: of all edits, one of which was made at least.
        public: as in trial.json.

    Raises:
        OSError, ValueError: a video cannot be read, or a page cannot be written.
    """
    made = [record for record in records if not record.failed]
    source = read_video(folder / SOURCE)
    clips = {record.edit.video: read_video(record.edit.video).frames for record in made}
    rows = {"source": source.frames} | {_title(record): clips[record.edit.video] for record in made}
    save_picture(folder / SHEET, contact_sheet({name: _narrowed(clip, THUMBNAIL) for name, clip in rows.items()}))
    prompts = {record.edit.prompt: record.edit.job.prompt for record in records}
    body = [
        "<header><h1>A trial of the ways to edit a clip</h1></header>",
        _opening(records, public),
        _means(made),
        *(
            _prompt(number, prompt, [record for record in records if record.edit.prompt == number], source, clips)
            for number, prompt in prompts.items()
        ),
        _sheet(folder / SHEET),
        _costs(made, public),
    ]
    style = LARGE_STYLE.read_text(encoding="utf-8")
    write_text(folder / REPORT, html_page("Tune-A-Video: a trial", "\n".join(body), style))


def _title(record: Record) -> str:
    return f"{record.edit.label}: {record.edit.job.prompt}"


def _opening(records: Sequence[Record], public: Mapping[str, Any]) -> str:
    job, failed = records[0].edit.job, [record for record in records if record.failed]
    lines = "".join(
        f"<li>{escape(record.edit.label)}, prompt {record.edit.prompt}: {escape(record.values['message'])}</li>"
        for record in failed
    )
    faults = f"<p>{len(failed)} of {len(records)} edits failed:</p><ul>{lines}</ul>" if failed else ""
    return (
        f'<section><p class="lead">The clip <q>{escape(job.source_prompt)}</q>, edited under {public["prompts"]} '
        f'prompts by each way, tuned and untuned. Which edits do you prefer? <a href="{PAGE}">Compare them</a> before '
        f"you read on: that page does not say which is which.</p>{faults}</section>"
    )


def _means(made: Sequence[Record]) -> str:
    """The figures of each way and strength, in the mean over the prompts."""
    groups: dict[str, list[Record]] = {}
    for record in made:
        groups.setdefault(record.edit.label, []).append(record)
    means = {label: mean_figures([dict(one.values["figures"]) for one in group]) for label, group in groups.items()}
    definitions = definitions_table(mean_figures(list(means.values())))
    return (
        "<section><h2>Figures</h2><p>Means over the prompts. No figure decides alone: an edit that changes nothing "
        f"has the best PSNR.</p>{_table(means)}<details open><summary>What they are, and the mean of all"
        f"</summary>{definitions}</details></section>"
    )


def _table(rows: Mapping[str, Mapping[str, float | None]]) -> str:
    names = [name for name in MEASURES if any(name in figures for figures in rows.values())]
    head = "".join(f"<th>{escape(MEASURES[name].label)}</th>" for name in names)
    lines = "".join(
        f"<tr><th>{escape(label)}</th>"
        + "".join(f'<td class="figure">{format_value(name, figures.get(name))}</td>' for name in names)
        + "</tr>"
        for label, figures in rows.items()
    )
    return f'<div class="wide" tabindex="0"><table><tr><th>edit</th>{head}</tr>{lines}</table></div>'


def _prompt(number: int, prompt: str, records: Sequence[Record], source: Any, clips: Mapping[Path, Tensor]) -> str:
    """All edits of one prompt: a strip for each way, from the clip to the untuned edit."""
    strips = "".join(
        f"<h3>{escape(way)}</h3>" + clip_strip(panels, float(source.fps), max(1, PANEL // source.frames.shape[2]))
        for way, panels in _ways(records, source.frames, clips)
    )
    figures = {record.edit.label: record.values["figures"] for record in records if not record.failed}
    return (
        f'<article id="prompt-{number}"><h2>Prompt {number}</h2><p><q>{escape(prompt)}</q></p>{strips}'
        f"<details open><summary>Figures of these edits</summary>{_table(figures)}</details></article>"
    )


def _ways(
    records: Sequence[Record], source: Tensor, clips: Mapping[Path, Tensor]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each way with its clips by name, the source first."""
    rows: dict[str, dict[str, Tensor]] = {}
    for record in records:
        if not record.failed:
            way, _, strength = record.edit.label.partition(", ")
            panels = rows.setdefault(way, {"source": _narrowed(source, PANEL)})
            panels[strength] = _narrowed(clips[record.edit.video], PANEL)
    yield from rows.items()


def _narrowed(frames: Tensor, width: int) -> Tensor:
    """Frames (f, h, w, 3) at most so wide, their height in proportion and even."""
    if frames.shape[2] <= width:
        return frames
    size = max(2, round(frames.shape[1] * width / frames.shape[2] / 2) * 2), width
    return F.interpolate(frames.permute(0, 3, 1, 2), size, mode="area").permute(0, 2, 3, 1)


def _sheet(path: Path) -> str:
    uri = data_uri("image/png", path.read_bytes())
    picture = f'<img alt="Frames of the clip and of every edit, a row each, under their names" src="{uri}">'
    return f'<section><h2>All in one picture</h2><div class="wide" tabindex="0">{picture}</div></section>'


def _costs(made: Sequence[Record], public: Mapping[str, Any]) -> str:
    """Seconds and memory of each edit, and on what."""
    lines = "".join(
        f'<tr><th>{escape(record.edit.label)}</th><td class="figure">{record.edit.prompt}</td>'
        + "".join(f'<td class="figure">{escape(cell)}</td>' for cell in cells(record))
        + "</tr>"
        for record in made
    )
    head = "".join(
        f"<th>{name}</th>"
        for name in ("edit", "prompt", "seconds of sampling", "updates made", "seconds an update", "peak, GiB")
    )
    device, model = public["device"], public["model"]
    versions = ", ".join(f"{name} {number}" for name, number in public["versions"].items())
    return (
        "<section><h2>Seconds and memory</h2><p>Edits share tunings and inversions; an update counts where it was made."
        f'</p><div class="wide" tabindex="0"><table><tr>{head}</tr>{lines}</table></div></section>'
        f"<footer><p>{escape(device['name'])} ({device['type']}), {model['parameters'] / 1e6:.0f} million weights in "
        f"{model['dtype']}, {escape(versions)}. All settings and figures are in trial.json.</p></footer>"
    )


def cells(record: Record) -> list[str]:
    """Of a row: seconds of sampling, updates, seconds of one, and the peak of memory in GiB."""
    values = record.values
    seconds, updates = values["seconds"], values["steps"].get("tune", 0)
    sampling = sum(seconds.get(stage, 0.0) for stage in OF_AN_EDIT)
    each = f"{seconds['tune'] / updates:.2f}" if updates else "-"
    return [f"{sampling:.1f}", str(updates), each, f"{values['peak_memory_bytes'] / 2**30:.2f}"]
