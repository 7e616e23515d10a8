"""Self-contained HTML pages: pictures and videos are part of the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ..models.base import ASSETS
from ..video import write_video

GAP = 2  # pixels of white between clips
LARGE_STYLE = ASSETS / "page.css"  # of pages that show much, on a large screen or a small one

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style></head><body>
{body}
</body></html>
"""
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .7rem; border-bottom: 1px solid #8886 }
th { text-align: left } td.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
video, img { max-width: 100% } .wide { overflow-x: auto }
"""


def html_page(title: str, body: str, style: str = STYLE) -> str:
    """A whole page.

    Arguments:
        title: plain text.
        body: HTML.
        style: CSS.
    """
    return _PAGE.format(title=escape(title), style=style, body=body)


def video_tag(frames: Tensor, fps: float, label: str) -> str:
    """A clip that plays by itself, over and over, with the browser's buttons, so that the keyboard stops it too.

    Arguments:
        frames: (f, h, w, 3) in [0, 1].
        label: what it shows, for those who cannot see it.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, fps)
        uri = data_uri("video/mp4", path.read_bytes())
    return f'<video src="{uri}" aria-label="{escape(label)}" controls autoplay loop muted playsinline></video>'


def clip_strip(panels: Mapping[str, Tensor], fps: float, enlarge: int = 1) -> str:
    """Clips side by side in one video, so that they stay in step, under their names; for pages of LARGE_STYLE.

    Arguments:
        panels: name -> (f, h, w, 3) in [0, 1], of one shape.
        enlarge: how many times each pixel is repeated.
    """
    gap = torch.ones_like(next(iter(panels.values()))[:, :, :GAP])
    joined = [part for clip in panels.values() for part in (gap, clip)][1:]
    frames = torch.cat(joined, dim=2).repeat_interleave(enlarge, 1).repeat_interleave(enlarge, 2)
    names = "".join(f"<span>{escape(name)}</span>" for name in panels)
    video = video_tag(frames, fps, ", ".join(panels))
    figure = f'<figure class="of{len(panels)}"><figcaption>{names}</figcaption>{video}</figure>'
    return f'<div class="wide" tabindex="0">{figure}</div>'


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
