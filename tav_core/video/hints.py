"""Hints for ControlNets that are drawn from the clip itself, without a network: edges and lines.

Both are white on black, as the ControlNets of these names were trained on.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from ..checks import check_choice, check_number, check_range, check_tensor

LOW, HIGH = 100, 200  # thresholds of Canny's detector that demos of ControlNet use, of 255
LINE_WIDTH = 6.0  # deviation in pixels of the blur that lines stand out from
LEAST_CONTRAST = 8  # of 255, from which a difference is a line


def draw_hints(kind: str, frames: Tensor) -> Tensor:
    """Hints of one of HINTS for each frame, (f, h, w, 3) in [0, 1].

    Arguments:
        kind: "canny" or "lineart".
        frames: (f, h, w, 3) in [0, 1].

    Raises:
        TypeError, ValueError: if one of them is something else.
    """
    check_choice("hint", kind, list(HINTS))
    return HINTS[kind](frames)


def canny(frames: Tensor, low: float = LOW, high: float = HIGH) -> Tensor:
    """Edges by Canny's detector ("A Computational Approach to Edge Detection", 1986), by OpenCV.

    Arguments:
        frames: (f, h, w, 3) in [0, 1].
        low, high: gradients of brightness, of 255, from which an edge goes on and from which one starts.

    Returns:
        (f, h, w, 3), 0 or 1.
    """
    check_number("low", low, 0, 255)
    check_number("high", high, low, 255)
    return _drawn(frames, lambda picture: cv2.Canny(picture, low, high))


def lineart(frames: Tensor) -> Tensor:
    """Lines where a frame is darker than around them. The middle one of a frame is half as bright as white.

    Arguments:
        frames: (f, h, w, 3) in [0, 1].

    Returns:
        (f, h, w, 3) in [0, 1].
    """
    return _drawn(frames, _lines)


HINTS: dict[str, Callable[[Tensor], Tensor]] = {"canny": canny, "lineart": lineart}


def _lines(picture: np.ndarray) -> np.ndarray:
    around = cv2.GaussianBlur(picture, (0, 0), LINE_WIDTH).astype(np.float32)
    darker = np.clip(around - picture, 0, 255).max(axis=2)
    strong = darker[darker > LEAST_CONTRAST]
    middle = max(2 * LEAST_CONTRAST, float(np.median(strong)) if len(strong) else 0.0)
    return np.clip(darker / middle * 127, 0, 255).astype(np.uint8)


def _drawn(frames: Tensor, draw: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    check_tensor("frames", frames)
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames are (f, height, width, 3), got {tuple(frames.shape)}.")
    check_range("frames", frames, 0, 1)
    pictures = (frames.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    drawn = np.stack([draw(np.ascontiguousarray(picture)) for picture in pictures])
    return torch.from_numpy(drawn)[..., None].float().div(255).expand(*drawn.shape, 3).contiguous()
