"""Optical flow between neighbouring frames, chained to track every point over several frames.

The flow is Farneback's (SCIA 2003; OpenCV), which is not learned. A point is visible in another frame if the tracks
forward and backward cancel there, the forward-backward check of Sundaram et al. (ECCV 2010).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

REACH = 8  # frames before and after

Points = np.ndarray  # (h, w, 2), float32: the positions of one frame's points in another frame, pixels right and down


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A frame near a reference frame.

    Attributes:
        index: its number.
        points: where the reference frame's points lie in it.
        visible: (h, w), bool, which of these points are visible in it.
        global_motion: where the points would lie if all moved by the median flow. The flow drags the background next to
            a moving object along with it; these points do not.
    """

    index: int
    points: Points
    visible: np.ndarray
    global_motion: Points


def track(pictures: np.ndarray, tolerance: float) -> Iterator[list[Neighbour]]:
    """Track the points of each frame of a clip through the frames within `REACH`.

    Arguments:
        pictures: grey, (f, h, w), uint8.
        tolerance: pixels; a point whose forward-backward error is larger counts as not visible.

    Yields:
        For each frame its neighbours in order, itself among them with all points visible.
    """
    count = len(pictures)
    here = grid(pictures.shape[1:])
    forward = [_flow(now, after) for now, after in pairwise(pictures)]
    backward = [_flow(after, now) for now, after in pairwise(pictures)]
    steps = [np.median(flow, axis=(0, 1)) for flow in forward]
    shifts = np.cumsum([np.zeros(2, np.float32), *steps], axis=0)  # of the global motion
    for i in range(count):
        later = [(j + 1, forward[j], backward[j]) for j in range(i, min(count - 1, i + REACH))]
        earlier = [(j - 1, backward[j - 1], forward[j - 1]) for j in range(i, max(0, i - REACH), -1)]
        itself = i, here, np.ones(pictures.shape[1:], bool)
        tracks = [*reversed(list(_chain(here, earlier, tolerance))), itself, *_chain(here, later, tolerance)]
        yield [Neighbour(j, points, visible, here + (shifts[j] - shifts[i])) for j, points, visible in tracks]


def _chain(
    here: Points, steps: list[tuple[int, np.ndarray, np.ndarray]], tolerance: float
) -> Iterator[tuple[int, Points, np.ndarray]]:
    """Chain the flow of steps (index of the next frame, flow to it, flow back): index, points, visible."""
    points, back = here, np.zeros_like(here)  # back: displacement of the current frame's points to the reference frame
    for index, flow, flow_back in steps:
        points = points + warp(flow, points)
        back = flow_back + warp(back, here + flow_back)
        error = np.linalg.norm(points + warp(back, points) - here, axis=-1)
        yield index, points, (error < tolerance) & inside(points)


def grey_pictures(frames: np.ndarray) -> np.ndarray:
    """Frames (f, h, w, 3) in [0, 1] as grey pictures, (f, h, w), uint8."""
    rounded = (frames.clip(0, 1) * 255).round().astype(np.uint8)
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in rounded])


def warp(picture: np.ndarray, points: Points) -> np.ndarray:
    """Sample a picture (h, w, ...) at points: bilinear between pixels, the nearest pixel beyond the border."""
    return cv2.remap(picture, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def inside(points: Points) -> np.ndarray:
    """Which points lie in the picture, at most half a pixel beyond its outermost pixels: (h, w), bool."""
    inside = (points > -0.5) & (points < np.array(points.shape[1::-1]) - 0.5)
    return inside[..., 0] & inside[..., 1]


def grid(size: tuple[int, ...]) -> Points:
    """Each point of a picture of (h, w) where it is."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack([x, y], -1)


def _flow(now: np.ndarray, after: np.ndarray) -> np.ndarray:
    return cv2.calcOpticalFlowFarneback(
        now, after, None, pyr_scale=0.5, levels=4, winsize=21, iterations=3, poly_n=7, poly_sigma=1.5, flags=0
    )
