"""What a ControlNet of the bundled model follows: a drawing's depth, its figure's joints, or its frames' edges."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ...video.hints import canny
from .canvas import SIZE
from .drawing import Drawing, Floats
from .skeleton import HEAD, HIP, NECK

NEAREST = 1.5  # disparity that is white; 1 is a figure's that stands at FEET_ROW
_SCALE = 3  # drawn so much larger, and made smaller
# Two joints and a colour: the body, the head, then for each limb from the body to its middle, and on to its end.
_BONES = (
    (HIP, NECK, (255, 255, 255)), (NECK, HEAD, (255, 255, 0)),
    (NECK, 3, (255, 0, 0)), (3, 4, (255, 128, 0)), (NECK, 5, (0, 160, 0)), (5, 6, (0, 255, 0)),
    (HIP, 7, (0, 0, 255)), (7, 8, (0, 160, 255)), (HIP, 9, (160, 0, 160)), (9, 10, (255, 0, 255)),
)  # fmt: skip


def depth_hints(drawing: Drawing) -> Floats:
    """Brighter is nearer, (f, h, w, 3) in [0, 1]."""
    return depth_picture(1 / drawing.depth)


def depth_picture(disparity: NDArray[np.floating]) -> Floats:
    """(..., h, w) -> (..., h, w, 3) in [0, 1]."""
    grey = np.clip(disparity / NEAREST, 0, 1).astype(np.float32)
    return np.repeat(grey[..., None], 3, axis=-1)


def pose_hints(joints: NDArray[np.floating]) -> Floats:
    """Coloured bones on black, from joints (f, j, 2) in pixels: (f, h, w, 3) in [0, 1]."""
    return np.stack([_bones(frame) for frame in joints])


def _bones(joints: NDArray[np.floating]) -> Floats:
    canvas = np.zeros((SIZE * _SCALE, SIZE * _SCALE, 3), np.uint8)
    points = [(int(x), int(y)) for x, y in np.round(joints * _SCALE)]
    for first, second, colour in _BONES:
        cv2.line(canvas, points[first], points[second], colour, 3 * _SCALE, cv2.LINE_AA)
    return np.float32(cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)) / np.float32(255)


HINTS: dict[str, Callable[[Drawing], Floats]] = {
    "depth": depth_hints,
    "pose": lambda drawing: pose_hints(drawing.joints),
    "canny": lambda drawing: canny(torch.from_numpy(drawing.frames)).numpy(),
}
