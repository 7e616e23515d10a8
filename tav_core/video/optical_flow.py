"""Where the points of a frame lie in the frames near it: optical flow from frame to frame, followed on.

The flow is Farneback's (SCIA 2003; OpenCV), learned from nothing. A point is seen in another frame if the way there and
the way back end where it set out, as in Sundaram et al. (ECCV 2010).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

REACH = 8  # frames before and after

Points = np.ndarray  # (h, w, 2), float32: where the points of one frame lie in another, in pixels right and down


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A frame near another one: its number, where the points of the other lie in it, which are seen (h, w), bool.

    ground: where they would lie if all moved as most of the picture does. Around what moves the flow moves too.
    """

    index: int
    points: Points
    seen: np.ndarray
    ground: Points


def follow(pictures: np.ndarray, tolerance: float) -> Iterator[list[Neighbour]]:
    """For each frame of a clip, the frames within `REACH`, itself among them, which sees all.

    Arguments:
        pictures: grey, (f, h, w), uint8.
        tolerance: pixels; a point that comes back farther off is lost.
    """
    count = len(pictures)
    here = _grid(pictures.shape[1:])
    ahead = [_flow(now, after) for now, after in pairwise(pictures)]
    behind = [_flow(after, now) for now, after in pairwise(pictures)]
    steps = [np.median(flow, axis=(0, 1)) for flow in ahead]
    places = np.cumsum([np.zeros(2, np.float32), *steps], axis=0)  # of the ground
    for i in range(count):
        later = [(j + 1, ahead[j], behind[j]) for j in range(i, min(count - 1, i + REACH))]
        earlier = [(j - 1, behind[j - 1], ahead[j - 1]) for j in range(i, max(0, i - REACH), -1)]
        itself = i, here, np.ones(pictures.shape[1:], bool)
        near = [*reversed(list(_walk(here, earlier, tolerance))), itself, *_walk(here, later, tolerance)]
        yield [Neighbour(index, points, seen, here + (places[index] - places[i])) for index, points, seen in near]


def _walk(
    here: Points, steps: list[tuple[int, np.ndarray, np.ndarray]], tolerance: float
) -> Iterator[tuple[int, Points, np.ndarray]]:
    """Follow the points from frame to frame; each step is the frame it leads to, the flow there, and the flow back."""
    there, home = here, np.zeros_like(here)  # home: how far the points of the frame now reached are from their start
    for index, flow, flow_back in steps:
        there = there + fetch(flow, there)
        home = flow_back + fetch(home, here + flow_back)
        gap = np.linalg.norm(there + fetch(home, there) - here, axis=-1)
        yield index, there, (gap < tolerance) & inside(there)


def fetch(picture: np.ndarray, points: Points) -> np.ndarray:
    """A picture (h, w, ...) seen where `points` say; between pixels bilinear, beyond the border the nearest."""
    return cv2.remap(picture, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def inside(points: Points) -> np.ndarray:
    """Which points lie in the picture, (h, w): on a pixel of it, or less than half a pixel beside."""
    inside = (points > -0.5) & (points < np.array(points.shape[1::-1]) - 0.5)
    return inside[..., 0] & inside[..., 1]


def _grid(size: tuple[int, ...]) -> Points:
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack([x, y], -1)


def _flow(now: np.ndarray, after: np.ndarray) -> np.ndarray:
    return cv2.calcOpticalFlowFarneback(
        now, after, None, pyr_scale=0.5, levels=4, winsize=21, iterations=3, poly_n=7, poly_sigma=1.5, flags=0
    )
