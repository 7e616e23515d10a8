"""Clips side by side with captions, contact sheets, and plots of the loss and of measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ..atomic import replacing, write_bytes
from ..checks import check_integer, check_path, check_tensor, check_type, shown
from .captions import caption_strip

MOST = 10_000  # clips, columns, frames and panels


def side_by_side(clips: Mapping[str, Tensor], columns: int = 3, enlarge: int = 2) -> Tensor:
    """Clips of one shape in a grid, each under its caption.

    Arguments:
        clips: caption -> (f, h, w, 3) in [0, 1].
        columns: clips in a row.
        enlarge: how many times each pixel is repeated, for small clips.

    Returns:
        (f, H, W, 3) in [0, 1]; an incomplete last row is filled with white.
    """
    _check_clips(clips)
    check_integer("columns", columns, 1, MOST)
    check_integer("enlarge", enlarge, 1, MOST)
    panels = _same_height([_captioned(_enlarged(frames, enlarge), caption) for caption, frames in clips.items()])
    panels += [torch.ones_like(panels[0])] * (-len(panels) % columns)
    rows = [torch.cat(panels[i : i + columns], dim=2) for i in range(0, len(panels), columns)]
    return torch.cat(rows, dim=1)


def contact_sheet(clips: Mapping[str, Tensor], num_frames: int = 8) -> Tensor:
    """Evenly spaced frames of each clip in one row, under its caption: (H, W, 3) in [0, 1]."""
    _check_clips(clips)
    check_integer("num_frames", num_frames, 1, MOST)
    rows = []
    for caption, frames in clips.items():
        chosen = torch.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().long()
        strip = torch.cat(list(frames[chosen]), dim=1)
        rows.append(_captioned(strip[None], caption)[0])
    return torch.cat(rows, dim=0)


def save_picture(path: Path, picture: Tensor) -> None:
    """Write (h, w, 3) in [0, 1] as a PNG.

    Raises:
        OSError: if the file cannot be written.
        TypeError, ValueError: if it is no such picture.
    """
    path = check_path(path)
    check_tensor("picture", picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"A picture has the shape (h, w, 3) and a pixel, not {tuple(picture.shape)}.")
    pixels = (picture.detach().clamp(0, 1) * 255).round().byte().numpy()
    written, data = cv2.imencode(".png", pixels[..., ::-1])
    assert written
    write_bytes(path, data.tobytes())


def save_loss_plot(file: Path | BinaryIO, losses: Sequence[float]) -> None:
    """Plot the loss of each tuning step and its running mean over 20 steps, as a PNG to a path or an open file."""
    if not losses:
        raise ValueError("There are no losses to plot: tune at least one step.")
    for loss in losses:
        if not isinstance(loss, Real):
            raise ValueError(f"losses must be numbers, not {shown(loss)}.")
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="tuning step", ylabel="loss")
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="#9ab", linewidth=0.8, label="one step")
    window = min(20, len(losses))
    mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    axes.plot(steps[window - 1 :], mean, color="#c33", label=f"mean of {window}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _save(figure, file)


def save_curves(file: Path | BinaryIO, curves: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Plot measures over time, one panel each: title -> {line: a value for each frame, or pair of frames}."""
    check_integer("the number of measures to plot", len(curves), 1, MOST)
    figure = Figure(figsize=(7, 2 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), 1, squeeze=False, sharex=True)[:, 0]
    colours = {"source": "#9ab", "edit": "#c33"}
    for axes, (title, lines) in zip(panels, curves.items(), strict=True):
        for name, values in lines.items():
            axes.plot(np.arange(1, len(values) + 1), values, ".-", color=colours.get(name), label=name)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))  # else small differences look large
        axes.xaxis.get_major_locator().set_params(integer=True)
        if any(lines):
            axes.legend(frameon=False)
    panels[-1].set_xlabel("frame")
    _save(figure, file)


def _save(figure: Figure, file: Path | BinaryIO) -> None:
    if isinstance(file, Path):
        with replacing(file) as temporary:
            figure.savefig(temporary, dpi=120, format="png")
    else:
        figure.savefig(file, dpi=120, format="png")


def _check_clips(clips: Mapping[str, Tensor]) -> None:
    """Raise unless `clips` maps captions to clips (f, h, w, 3) of one shape.

    Raises:
        TypeError, ValueError: with the reason.
    """
    check_type("clips", clips, Mapping, "give clips by their captions")
    check_integer("the number of clips", len(clips), 1, MOST)
    for caption, frames in clips.items():
        check_type("a caption", caption, str)
        check_tensor("the frames of a clip", frames)
    shapes = {tuple(frames.shape) for frames in clips.values()}
    (shape,) = shapes if len(shapes) == 1 else [()]
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise ValueError(f"Clips to be shown have one shape (f, h, w, 3) with a pixel, not {shown(sorted(shapes))}.")


def _enlarged(frames: Tensor, factor: int) -> Tensor:
    return frames.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def _captioned(frames: Tensor, caption: str) -> Tensor:
    """Frames below a white strip with the caption."""
    strip = torch.from_numpy(caption_strip(caption, frames.shape[2]).copy())
    above = strip.float().div(255).expand(len(frames), -1, -1, -1)
    return torch.cat([above, frames], dim=1)


def _same_height(panels: list[Tensor]) -> list[Tensor]:
    """Panels (f, h, w, 3) padded with white at the top to one height, for captions of several lines."""
    height = max(panel.shape[1] for panel in panels)
    return [F.pad(panel, (0, 0, 0, 0, height - panel.shape[1], 0), value=1.0) for panel in panels]
