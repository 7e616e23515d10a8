"""Polygons, the one primitive of the drawn world. Points are (n, 2) float64, in the axes and unit of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Colour = tuple[int, int, int]  # red, green, blue in [0, 255]


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled polygon. Neighbours in a list that share a group are outlined together; part is the index of a bone."""

    points: Points
    colour: Colour
    group: int = 0
    part: int = 0

    def moved(self, points: Points) -> Shape:
        return replace(self, points=points)


def point(x: float, y: float) -> Points:
    return np.array((x, y), dtype=np.float64)


def polygon(*corners: Sequence[float]) -> Points:
    return np.array(corners, dtype=np.float64)


def oval(x: float, y: float, across: float, upright: float, angle: float = 0.0, count: int = 24) -> Points:
    """An ellipse with half-axes `across` and `upright`, turned by `angle` radians from x to y: (count, 2)."""
    turn = 2 * np.pi * np.arange(count) / count
    u, v = across * np.cos(turn), upright * np.sin(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x + u * cos - v * sin, y + u * sin + v * cos], axis=1)


def oval_at(middle: Points, across: float, upright: float, angle: float = 0.0, count: int = 24) -> Points:
    return oval(float(middle[0]), float(middle[1]), across, upright, angle, count)


def taper(start: Points, end: Points, start_radius: float, end_radius: float, count: int = 9) -> Points:
    """A limb: a half circle about each end, joined by straight sides, (2 * count, 2)."""
    angle = float(np.arctan2(end[1] - start[1], end[0] - start[0]))
    half = np.linspace(-np.pi / 2, np.pi / 2, count)
    far = end + end_radius * np.stack([np.cos(angle + half), np.sin(angle + half)], axis=1)
    near = start + start_radius * np.stack([np.cos(angle + np.pi + half), np.sin(angle + np.pi + half)], axis=1)
    return np.concatenate([far, near])


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


@dataclass(frozen=True, slots=True)
class Frame:
    """Axes of a bone: `up` along it, `ahead` a quarter turn clockwise from it (x right, y up)."""

    origin: Points
    up: Points
    ahead: Points

    @classmethod
    def of(cls, start: Points, end: Points) -> Frame:
        """The frame at `end` of the bone that leads there from `start`."""
        up = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
        return cls(end, up, point(up[1], -up[0]))

    def at(self, ahead: float, up: float) -> Points:
        return self.origin + ahead * self.ahead + up * self.up

    def place(self, points: Points) -> Points:
        """Points given as (ahead, up) in this frame, as x, y."""
        return self.origin + points[:, :1] * self.ahead + points[:, 1:] * self.up


def shade(colour: Colour, factor: float) -> Colour:
    """Darker below 1, lighter (towards white) above 1."""
    if factor <= 1:
        return (round(colour[0] * factor), round(colour[1] * factor), round(colour[2] * factor))
    return mix(colour, (255, 255, 255), factor - 1)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour, the rest of the first."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return (red, green, blue)
