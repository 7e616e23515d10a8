"""A clip of a scene with the truth about every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .canvas import SIZE, Pixels
from .colour import ciede2000
from .geometry import Points
from .layers import disparity_at
from .render import GROUND, Snapshot, snapshot
from .scene import LONGEST, Scene, Words
from .words import check_words

OTHER_LAYOUTS = 16
ALIKE = 8.0  # CIEDE2000 up to which two pixels count as the same

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Drawing:
    """A drawn clip and its truth. f frames, h = w = SIZE pixels, x right, y down.

    frames: (f, h, w, 3) in [0, 1].
    place: (f, h, w, 3) in [0, 1], the same without the figure but with its shadow.
    figure_mask: (f, h, w), the figure where nothing hides it.
    joints: (f, j, 2) in pixels, in the order of JOINTS; may lie outside of the picture.
    depth: (f, h, w), distance from the camera; 1 for a figure that stands at FEET_ROW, 50 for the sky.
    flow: (f - 1, h, w, 2) in pixels: what shows at a pixel of frame k is at that pixel plus flow[k] in frame k + 1.
    """

    scene: Scene
    words: Words
    frames: Floats
    place: Floats
    figure_mask: Bools
    joints: Floats
    depth: Floats
    flow: Floats
    labels: NDArray[np.uint8]  # (f, h, w), which part of figure or place shows; the same part has the same label

    @cached_property
    def determined(self) -> Bools:
        """(f, h, w), pixels that are alike (CIEDE2000 <= ALIKE) in all but one of OTHER_LAYOUTS layouts."""
        alike = np.zeros(self.figure_mask.shape, np.int64)
        seeds = np.random.default_rng((self.scene.layout, 1)).integers(1 << 31, size=OTHER_LAYOUTS)
        for seed in seeds:
            for index, frame in enumerate(self.frames):
                other = snapshot(self.scene, self.words, index, int(seed)).picture
                alike[index] += ciede2000(frame, np.float32(other) / 255) <= ALIKE
        return alike >= OTHER_LAYOUTS - 1


def draw(scene: Scene, words: Words, num_frames: int = 16) -> Drawing:
    """Draw a clip. The same scene under other words is the true edit.

    Raises:
        ValueError: if words are missing or unknown, or num_frames is not from 1 to LONGEST.
    """
    check_words(words)
    if not 1 <= num_frames <= LONGEST:
        raise ValueError(f"num_frames is from 1 to {LONGEST}, not {num_frames}")
    shots = [snapshot(scene, words, time) for time in range(num_frames)]
    pairs = list(pairwise(shots))
    return Drawing(
        scene=scene,
        words=dict(words),
        frames=_unit([shot.picture for shot in shots]),
        place=_unit([shot.place for shot in shots]),
        figure_mask=np.stack([shot.mask for shot in shots]),
        joints=np.stack([shot.joints for shot in shots]).astype(np.float32),
        depth=np.stack([1 / disparity_map(shot) for shot in shots]).astype(np.float32),
        flow=np.stack([flow_between(*pair) for pair in pairs]) if pairs else np.zeros((0, SIZE, SIZE, 2), np.float32),
        labels=np.stack([shot.labels for shot in shots]),
    )


def draw_frames(scene: Scene, words: Words, num_frames: int = 16) -> tuple[Floats, Bools]:
    """Frames and figure masks of a clip alone, as in Drawing, at a third of the cost."""
    shots = [snapshot(scene, words, time) for time in range(num_frames)]
    return _unit([shot.picture for shot in shots]), np.stack([s.mask for s in shots])


def _unit(pictures: list[Pixels]) -> Floats:
    return np.float32(np.stack(pictures)) / np.float32(255)


def disparity_map(shot: Snapshot) -> NDArray[np.float64]:
    """Disparity of what shows at each pixel, (h, w)."""
    table = np.zeros(256)
    for label, disparity in shot.disparity.items():
        table[label] = disparity
    rows = [disparity_at(row + 0.5 - shot.camera[1]) for row in range(SIZE)]
    ground = np.broadcast_to(np.array(rows)[:, None], (SIZE, SIZE))
    return np.where(shot.labels == GROUND, ground, table[shot.labels])


def flow_between(first: Snapshot, second: Snapshot) -> Floats:
    """Where what shows in `first` has gone in `second`, (h, w, 2) in pixels."""
    flow = np.empty((SIZE, SIZE, 2))
    flow[..., 0] = -(second.camera[0] - first.camera[0]) * disparity_map(first)
    flow[..., 1] = second.camera[1] - first.camera[1]
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    for label in np.unique(first.labels):
        if label in first.segments:
            inside = first.labels == label
            here = np.stack([x[inside], y[inside]], axis=1)
            flow[inside] = carry(here, first.segments[label], second.segments[label]) - here
    return flow.astype(np.float32)


def carry(points: Points, start: Points, end: Points) -> Points:
    """Points (n, 2) that move with a bone from segment `start` to segment `end` (2, 2 each): turned, moved, scaled."""
    z, (a, b), (c, d) = (pairs[:, 0] + 1j * pairs[:, 1] for pairs in (points, start, end))
    moved = c + (z - a) * (d - c) / (b - a)
    return np.stack([moved.real, moved.imag], axis=1)
