"""The six figures: a skeleton, a way to draw it and a size each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from . import animals, people, skeleton
from .geometry import Colour, Points, Shape, point
from .motion import Pose
from .skeleton import HIP, NECK, Proportions

COATS: dict[str, Colour] = {
    "red": (222, 56, 50),
    "blue": (46, 104, 218),
    "green": (36, 146, 84),
    "yellow": (250, 204, 40),
    "purple": (138, 74, 190),
    "pink": (248, 142, 186),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """`scale` is its height unit relative to a person's, so that all figures cover a comparable area."""

    pose: Callable[[Pose, Proportions], Points]
    draw: Callable[[Points, Colour, float], list[Shape]]
    scale: float


FIGURES = {
    "person": Figure(skeleton.biped, people.person, 1.0),
    "robot": Figure(skeleton.biped, people.robot, 1.0),
    "dog": Figure(partial(skeleton.quadruped, build=skeleton.DOG), animals.dog, 0.97),
    "horse": Figure(partial(skeleton.quadruped, build=skeleton.HORSE), animals.horse, 0.9),
    "bird": Figure(skeleton.bird, animals.bird, 0.98),
    "crab": Figure(skeleton.crab, animals.crab, 0.92),
}


@dataclass(frozen=True, slots=True)
class Body:
    """A figure on the screen: shapes from back to front, points (n, 2) of its skeleton, both in pixels, y down."""

    shapes: list[Shape]
    points: Points
    lift: float  # pixels between its lowest point and the ground


def stand(
    kind: str, coat: str, pose: Pose, proportions: Proportions, foot: tuple[float, float], size: float, direction: int
) -> Body:
    """Pose a figure, turn it about its middle and set its lowest point `lift` above the ground.

    Arguments:
        foot: x of the middle of its body and y of the ground below it, in pixels.
        size: pixels that a person of proportions 1 is high.
        direction: 1 faces right, -1 left.
    """
    figure = FIGURES[kind]
    points = figure.pose(pose, proportions)
    shapes = figure.draw(points, COATS[coat], proportions.girth)
    middle = 0.5 * (points[HIP] + points[NECK])
    cos, sin = np.cos(pose.turn), np.sin(pose.turn)
    clockwise = np.array([[cos, -sin], [sin, cos]])
    turned = [(shape.points - middle) @ clockwise for shape in shapes]
    lowest = min(float(corners[:, 1].min()) for corners in turned)
    scale = size * figure.scale
    axes = scale * point(direction, -1.0)
    origin = point(foot[0], foot[1] + scale * lowest - size * pose.lift)
    placed = [shape.moved(corners * axes + origin) for shape, corners in zip(shapes, turned, strict=True)]
    return Body(placed, (points - middle) @ clockwise * axes + origin, size * pose.lift)
