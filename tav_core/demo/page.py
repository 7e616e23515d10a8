"""report.html of the demo: one page that a browser plays without a server, on a large screen or a small one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from ..atomic import write_text
from ..evaluation.page import LARGE_STYLE, clip_strip, html_page
from ..viz.heat_maps import heat_overlay
from .clip import BundledClip
from .edits import DemoEdit
from .judge import LOOSE, REACH, STRICT

ENLARGE = 3  # times each pixel is repeated
MEASURES = {
    "iou": ("outline", "overlap of the figure's outline with the true one"),
    "figure": ("figure", "pixels of the figure that have their true colour"),
    "rest": ("surroundings", "all other pixels that have their true colour"),
    "changed": ("change", "pixels that the edit was to change, and did"),
}
HELD_OUT = "No picture that the model was trained on shows a {motion}, and the caption does not say the word."


@dataclass(frozen=True, eq=False)
class Shown:
    """What the page shows.

    Attributes:
        clip: the bundled clip.
        source, reconstruction: (f, h, w, 3) in [0, 1].
        untuned, tuned: the same edit by the model as it was before tuning, and after it.
        edits: those by the tuned model.
    """

    clip: BundledClip
    source: Tensor
    reconstruction: Tensor
    untuned: DemoEdit
    tuned: DemoEdit
    edits: list[DemoEdit]


def write_page(path: Path, shown: Shown, report: Mapping[str, Any]) -> None:
    """Write the page.

    Arguments:
        report: as in report.json.
    """
    body = [
        "<header><h1>One clip, tuned once, edited by its caption</h1></header>",
        _opening(shown, report),
        _tuning(shown),
        f"<h2>{len(shown.edits)} edits</h2><p>Left what the model made, right the true edit: the same clip as the "
        "world itself draws it under the new words.</p>",
        *(_edit(edit, shown) for edit in shown.edits),
        _judge(shown),
        _settings(report),
    ]
    style = LARGE_STYLE.read_text(encoding="utf-8")
    write_text(path, html_page("Tune-A-Video: the demo", "\n".join(body), style))


def _opening(shown: Shown, report: Mapping[str, Any]) -> str:
    lost, limit = report["reconstruction_psnr"], report["round_trip_psnr"]
    held_out = HELD_OUT.format(motion=escape(shown.clip.motion.replace("_", " ")))
    return (
        f'<section><p class="lead">The clip has {len(shown.source)} frames and one caption: '
        f"<q>{escape(shown.clip.caption)}</q>. {held_out} A small image model was tuned on this one clip for "
        f"{report['settings']['tuning']['steps']} steps, and then sampled under other captions.</p>"
        + _strip({"source": shown.source, "reconstruction": shown.reconstruction}, shown)
        + f"<p>The reconstruction is the clip inverted to noise and sampled again under its own caption: {lost:.1f} dB "
        f"from the source. The model's autoencoder alone comes to {limit:.1f} dB.</p></section>"
    )


def _tuning(shown: Shown) -> str:
    before, after = shown.untuned, shown.tuned
    panels = {"not tuned": before.frames, "tuned": after.frames, "the true edit": after.truth}
    rows = "".join(
        f'<tr><th>{name}</th><td class="figure">{edit.num_strict} of {len(edit.frames)}</td>'
        f'<td class="figure">{edit.num_loose} of {len(edit.frames)}</td><td class="figure">{edit.mean("iou"):.0%}</td>'
        f'<td class="figure">{edit.mean("figure_psnr"):.1f} dB</td></tr>'
        for name, edit in (("not tuned", before), ("tuned", after))
    )
    return (
        "<section><h2>What tuning is for</h2>"
        f"<p>The same edit, <q>{_marked(after.prompt, shown.clip.caption)}</q>, with the same settings, in the "
        "published way: each model inverts the clip to noise and samples it under the new words. Left the image "
        "model as it was, in the middle the model that was tuned on the clip. Watch the body: the motion is "
        "what the tuning learnt.</p>"
        + _strip(panels, shown)
        + '<div class="wide" tabindex="0"><table><tr><th></th><th>frames right, strictly</th><th>loosely</th>'
        f"<th>outline</th><th>figure's pixels</th></tr>{rows}</table></div></section>"
    )


def _edit(edit: DemoEdit, shown: Shown) -> str:
    count = len(edit.frames)
    bars = "".join(
        f'<div class="bar"><span>{name}</span><meter min="0" max="1" value="{edit.mean(key):.3f}" '
        f'aria-label="{name}" title="{escape(meaning)}"></meter><b>{edit.mean(key):.0%}</b></div>'
        for key, (name, meaning) in MEASURES.items()
    )
    maps = _strip({word: heat_overlay(edit.frames, heat) for word, heat in edit.heat_maps}, shown, enlarge=1)
    where = f"<details open><summary>Where each word acts</summary>{maps}</details>" if edit.heat_maps else ""
    return (
        f'<article id="{escape(edit.name)}"><h3>Another {escape(edit.kind)}</h3>'
        f"<p><q>{_marked(edit.prompt, shown.clip.caption)}</q></p>"
        + _strip({"edit": edit.frames, "the true edit": edit.truth}, shown)
        + f'<p class="verdict"><b>{edit.num_strict} of {count}</b> frames are right by the strict measure, '
        f"<b>{edit.num_loose}</b> by the loose one.</p>"
        f'<div class="bars">{bars}</div>{where}</article>'
    )


def _judge(shown: Shown) -> str:
    rows = "".join(
        f'<tr><th>{name}</th><td class="about">{meaning}</td><td class="figure">{getattr(STRICT, key):.0%}</td>'
        f'<td class="figure">{getattr(LOOSE, key):.0%}</td></tr>'
        for key, (name, meaning) in MEASURES.items()
    )
    cells = (
        f"<tr><th>{escape(edit.name)}</th>"
        + "".join(
            f'<td class="figure">{text}</td>'
            for text in (
                f"{edit.num_strict / len(edit.frames):.0%}",
                f"{edit.num_loose / len(edit.frames):.0%}",
                *(f"{edit.mean(key):.0%}" for key in MEASURES),
                f"{edit.mean('figure_psnr'):.1f}",
                f"{edit.mean('rest_psnr'):.1f}",
                f"{edit.mean('flicker'):.3f}",
                f"{edit.mean('true_flicker'):.3f}",
            )
        )
        + "</tr>"
        for edit in (*shown.edits, shown.untuned)
    )
    names = "".join(f"<th>{name}</th>" for name, _ in MEASURES.values())
    return (
        "<section><h2>How the edits are judged</h2><p>The bundled world is drawn in code, so the true edit is known to "
        "the pixel. A frame is right if all four measures reach their threshold. Two colours count as the same up to a "
        "CIEDE2000 of 12. Outlines are compared within "
        f"{REACH} pixels of the true figure. Where the place is another, only pixels that are alike in nearly all "
        'layouts of the place are judged.</p><div class="wide" tabindex="0"><table><tr><th>measure</th>'
        f"<th>share of</th><th>strict from</th><th>loose from</th></tr>{rows}</table></div>"
        '<div class="wide" tabindex="0"><table><tr><th>edit</th><th>strict</th><th>loose</th>'
        f"{names}<th>figure, dB</th><th>rest, dB</th><th>flicker</th><th>true flicker</th></tr>{''.join(cells)}"
        "</table></div></section>"
    )


def _settings(report: Mapping[str, Any]) -> str:
    start = report["settings"]["start_from"]
    seconds = ", ".join(f"{escape(name)} {spent:.0f}" for name, spent in report["seconds"].items())
    return (
        f"<footer><p>Edits start from: {escape(start.replace('_', ' '))}. Seconds: {seconds}. "
        "All settings and numbers are in report.json.</p></footer>"
    )


def _marked(prompt: str, caption: str) -> str:
    """The prompt with its new words marked."""
    old = set(caption.replace(",", "").split())
    return " ".join(
        escape(word) if word.strip(",") in old else f"<mark>{escape(word)}</mark>" for word in prompt.split()
    )


def _strip(panels: Mapping[str, Tensor], shown: Shown, enlarge: int = ENLARGE) -> str:
    return clip_strip(panels, float(shown.clip.fps), enlarge)
