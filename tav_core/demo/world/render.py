"""One frame of a scene, with the labels, bones and depths from which all truth about it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import SIZE, Canvas, Pixels
from .figures import Body, stand
from .geometry import Points, Shape, box, oval, point, shade
from .landscapes import PLACES
from .layers import FEET_ROW, HORIZON, SKY, disparity_at
from .motion import ACTIONS, CYCLES_PER_FRAME
from .places import Layout, layout
from .scene import Companion, Scene, Words
from .skeleton import NUM_JOINTS, Proportions, bones
from .styles import STYLES, Style

# Labels, in one byte: 0 the sky, 1 the ground, then the layers of the place, and the parts of figures, one a bone.
GROUND, FIRST_LAYER, COMPANION, COMPANION_SHADOW, SHADOW, IN_FRONT, FIGURE = 1, 2, 64, 100, 101, 102, 128


@dataclass(frozen=True)
class Snapshot:
    """A frame and its truth. Pixels x right, y down.

    picture, place: (SIZE, SIZE, 3) uint8, with the figure and without.
    mask: (SIZE, SIZE) bool, the figure where nothing hides it.
    labels: (SIZE, SIZE) uint8, what shows in the middle of each pixel.
    joints: (j, 2), in the order of JOINTS.
    disparity: of each label but the ground's.
    segments: two points (2, 2) for each label that moves by itself.
    camera: pixels to the right at disparity 1, and pixels that the picture has moved down.
    """

    picture: Pixels
    place: Pixels
    mask: NDArray[np.bool_]
    labels: Pixels
    joints: Points
    disparity: dict[int, float]
    segments: dict[int, Points]
    camera: tuple[float, float]


class _Painter:
    """Paints one frame from back to front and writes down what moves how."""

    def __init__(self, scene: Scene, words: Words, time: float, seed: int):
        self.scene, self.words, self.time = scene, words, time
        self.camera = scene.camera(time)
        self.style: Style = STYLES[words["style"]]
        self.layout: Layout = layout(words["place"], seed)
        self.canvas = Canvas()
        self.disparity: dict[int, float] = {0: SKY}
        self.segments: dict[int, Points] = {}

    def place_behind(self) -> None:
        down = self.camera[1]
        shifted = np.roll(self.layout.sky, round(3 * down), axis=0)
        if down > 0:
            shifted[: round(3 * down)] = self.layout.sky[0]
        self.canvas.gradient(self.style.sky(shifted))
        for index, layer in enumerate(self.layout.layers):
            if index == self.layout.num_behind:
                ground = Shape(box(-20, HORIZON, SIZE + 20, SIZE + 20), self.layout.ground)
                self.paint_place([ground], GROUND, 0.0)
            self.disparity[FIRST_LAYER + index] = layer.disparity
            self.paint_place(layer.shapes, FIRST_LAYER + index, layer.disparity)

    def paint_place(self, shapes: list[Shape], label: int, disparity: float) -> None:
        shift = -self.camera[0] * disparity
        near = [s for s in shapes if s.points[:, 0].max() + shift > -4 and s.points[:, 0].min() + shift < SIZE + 4]
        lowered = [s.moved(s.points + (0.0, self.camera[1])) for s in self.style.place(near)]
        self.canvas.paint(lowered, [label] * len(lowered), self.style.place_outline, shift)

    def paint_body(self, body: Body, label: int, disparity: float, outline: float) -> None:
        shapes = self.style.figure(body.shapes)
        self.canvas.paint(shapes, [label + shape.part for shape in shapes], outline)
        for index, (start, end) in enumerate(bones(len(body.points))):
            self.disparity[label + index] = disparity
            self.segments[label + index] = body.points[[start, end]]

    def paint_shadow(self, x: float, row: float, reach: float, lift: float, label: int) -> None:
        """An ellipse of shaded ground that shrinks as the figure rises."""
        half = reach * (1 - min(0.45, lift / 60))
        ground = self.style.place([Shape(oval(x, row, half, 0.17 * half), shade(self.layout.ground, 0.72), -1)])
        self.canvas.paint(ground, [label], 0.0)
        self.disparity[label] = disparity_at(row)
        self.segments[label] = np.stack([point(x - half, row), point(x + half, row)])

    def companion(self, other: Companion) -> None:
        down = self.camera[1]
        x = other.x - other.disparity * self.camera[0]
        row = HORIZON + other.disparity * (FEET_ROW - HORIZON)
        size = 66.0 * other.disparity
        cycles = other.phase + CYCLES_PER_FRAME[other.action] * self.time
        pose = ACTIONS[other.action](cycles, 1.0)
        body = stand(other.figure, other.coat, pose, Proportions(), (x, row + down), size, other.direction)
        self.paint_shadow(x, row + down, 0.3 * size, body.lift, COMPANION_SHADOW)
        self.paint_body(body, COMPANION, other.disparity, 0.6 * self.style.figure_outline)

    def figure(self) -> Body:
        scene, down = self.scene, self.camera[1]
        pose = scene.pose(self.words["action"], self.time)
        foot = (scene.x + scene.drift * self.time, scene.row + down)
        return stand(
            self.words["figure"], self.words["coat"], pose, scene.proportions, foot, scene.size, scene.direction
        )

    def in_front(self) -> None:
        thing = self.scene.in_front
        if thing is None:
            return
        disparity = disparity_at(thing.row)
        self.disparity[IN_FRONT] = disparity
        make = PLACES[self.words["place"]].in_front
        self.paint_place(make(thing.x, thing.row, thing.size), IN_FRONT, disparity)


def snapshot(scene: Scene, words: Words, time: float, layout_seed: int | None = None) -> Snapshot:
    """Draw one moment of a scene.

    Arguments:
        time: in frames; need not be whole.
        layout_seed: another layout of the same place than the scene's own.
    """
    painter = _Painter(scene, words, time, scene.layout if layout_seed is None else layout_seed)
    painter.place_behind()
    if scene.companion is not None:
        painter.companion(scene.companion)
    body = painter.figure()
    row = scene.row + painter.camera[1]
    painter.paint_shadow(scene.x + scene.drift * time, row, 0.36 * scene.size, body.lift, SHADOW)
    whole = painter.canvas
    painter.canvas = whole.copy()
    painter.in_front()
    place = painter.canvas.picture()
    painter.canvas = whole
    painter.paint_body(body, FIGURE, disparity_at(scene.row), painter.style.figure_outline)
    painter.in_front()
    return Snapshot(
        picture=whole.picture(),
        place=place,
        mask=whole.coverage(FIGURE) >= 0.5,
        labels=whole.label_map(),
        joints=body.points[:NUM_JOINTS],
        disparity=painter.disparity,
        segments=painter.segments,
        camera=painter.camera,
    )
