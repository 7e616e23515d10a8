"""Pictures for people: clips side by side with captions, a contact sheet, plots of the loss and of measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE = 16  # pixels, height of a line of text


def side_by_side(clips: Mapping[str, Tensor], columns: int = 3, enlarge: int = 2) -> Tensor:
    """Clips of equal shape in a grid, each under its caption.

    Arguments:
        clips: caption -> (f, h, w, 3) in [0, 1].
        columns: clips in a row.
        enlarge: whole factor by which pixels are repeated, for small clips.

    Returns:
        (f, H, W, 3) in [0, 1]; a last row that is not full is filled with white.
    """
    panels = [_captioned(_enlarged(frames, enlarge), caption) for caption, frames in clips.items()]
    panels += [torch.ones_like(panels[0])] * (-len(panels) % columns)
    rows = [torch.cat(panels[i : i + columns], dim=2) for i in range(0, len(panels), columns)]
    return torch.cat(rows, dim=1)


def contact_sheet(clips: Mapping[str, Tensor], num_frames: int = 8) -> Tensor:
    """Evenly spaced frames of each clip in a row of its own, under its caption: (H, W, 3) in [0, 1]."""
    rows = []
    for caption, frames in clips.items():
        chosen = torch.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().long()
        strip = torch.cat(list(frames[chosen]), dim=1)
        rows.append(_captioned(strip[None], caption)[0])
    return torch.cat(rows, dim=0)


def save_picture(path: Path, picture: Tensor) -> None:
    """Write (h, w, 3) in [0, 1] as a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    pixels = (picture.clamp(0, 1) * 255).round().byte().numpy()
    written, data = cv2.imencode(".png", pixels[..., ::-1])
    assert written
    path.write_bytes(data.tobytes())


def save_loss_plot(path: Path, losses: Sequence[float]) -> None:
    """Plot the loss of each tuning step and its running mean over 20 steps."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="tuning step", ylabel="loss")
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="#9ab", linewidth=0.8, label="one step")
    window = min(20, len(losses))
    mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    axes.plot(steps[window - 1 :], mean, color="#c33", label=f"mean of {window}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def save_curves(file: Path | BinaryIO, curves: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Plot figures over time, one panel each: what -> {line's name: a value for each frame, or pair of frames}."""
    figure = Figure(figsize=(7, 2 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), 1, squeeze=False, sharex=True)[:, 0]
    colours = {"source": "#9ab", "edit": "#c33"}
    for axes, (title, lines) in zip(panels, curves.items(), strict=True):
        for name, values in lines.items():
            axes.plot(np.arange(1, len(values) + 1), values, ".-", color=colours.get(name), label=name)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))  # or else small differences look large
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    panels[-1].set_xlabel("frame")
    figure.savefig(file, dpi=120)


def _enlarged(frames: Tensor, factor: int) -> Tensor:
    return frames.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def _captioned(frames: Tensor, caption: str) -> Tensor:
    """Frames with a white strip above that holds the caption, broken into as many lines as its width needs."""
    width = frames.shape[2]
    lines = _wrapped(caption, width - 8)
    strip = np.full((_LINE * max(len(lines), 2) + 6, width, 3), 255, dtype=np.uint8)
    for index, line in enumerate(lines):
        cv2.putText(strip, line, (4, _LINE * (index + 1)), _FONT, 0.42, (20, 20, 20), 1, cv2.LINE_AA)
    above = torch.from_numpy(strip).float().div(255).expand(len(frames), -1, -1, -1)
    return torch.cat([above, frames], dim=1)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and cv2.getTextSize(longer, _FONT, 0.42, 1)[0][0] > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
