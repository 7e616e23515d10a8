"""Things that stand in a place: trees, houses, clouds. Each is a list of shapes in pixels, x right, y down.

`x` is the middle and `base` the row on which the thing stands; `size` scales it about that point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .geometry import Colour, Points, Shape, box, oval, oval_at, point, polygon, shade, taper

TRUNK: Colour = (132, 88, 60)


def _at(corners: Points, x: float, base: float, size: float) -> Points:
    return corners * size + point(x, base)


def cloud(x: float, base: float, size: float, colour: Colour) -> list[Shape]:
    puffs = ((-7, 0, 7, 3.6), (0, -2.2, 7, 4.6), (8, 0, 7, 3.4))
    return [Shape(_at(oval(*puff), x, base, size), colour, 1) for puff in puffs]


def disc(x: float, y: float, radius: float, colour: Colour, group: int = 1) -> Shape:
    return Shape(oval(x, y, radius, radius), colour, group)


def tree(x: float, base: float, size: float, leaves: Colour) -> list[Shape]:
    crown = ((-5, -15, 6, 6.5), (5, -15, 6, 6.5), (0, -20, 7.5, 7.5))
    trunk = Shape(_at(box(-1.7, -10, 1.7, 0.5), x, base, size), TRUNK, 1)
    return [trunk, *(Shape(_at(oval(*c), x, base, size), leaves, 2) for c in crown)]


def pine(x: float, base: float, size: float, needles: Colour) -> list[Shape]:
    rows = ((8.5, -4, -16), (7, -11, -23), (5.2, -18, -29))
    trunk = Shape(_at(box(-1.5, -5, 1.5, 0.5), x, base, size), TRUNK, 1)
    parts = [polygon((-half, low), (half, low), (0, top)) for half, low, top in rows]
    return [trunk, *(Shape(_at(part, x, base, size), needles, 2) for part in parts)]


def cactus(x: float, base: float, size: float, colour: Colour) -> list[Shape]:
    strokes = (
        ((0, 0), (0, -21), 2.8),
        ((0, -8), (-7, -9), 2.1),
        ((-7, -9), (-7, -15), 2.1),
        ((0, -6), (6.5, -7), 2.0),
        ((6.5, -7), (6.5, -17), 2.0),
    )
    return [
        Shape(_at(taper(point(*a), point(*b), radius, radius), x, base, size), colour, 2) for a, b, radius in strokes
    ]


def palm(x: float, base: float, size: float, leaves: Colour) -> list[Shape]:
    top = point(4.5, -25)
    trunk = Shape(_at(taper(point(0, 0), top, 2.0, 1.3), x, base, size), TRUNK, 1)
    angles = (-2.75, -1.95, -1.1, -0.3, 0.45, 2.7)
    fronds = [top + 6.5 * point(np.cos(a), np.sin(a)) for a in angles]
    crown = [oval_at(middle, 7.2, 2.4, a) for middle, a in zip(fronds, angles, strict=True)]
    return [trunk, *(Shape(_at(frond, x, base, size), leaves, 2) for frond in crown)]


def boat(x: float, base: float, size: float) -> list[Shape]:
    hull = polygon((-6, -2), (6, -2), (4, 1.5), (-4, 1.5))
    sail = polygon((-0.5, -13), (-0.5, -3), (6, -3))
    return [
        Shape(_at(sail, x, base, size), (252, 250, 242), 1),
        Shape(_at(hull, x, base, size), (196, 70, 60), 2),
    ]


def house(x: float, base: float, width: float, height: float, wall: Colour, lit: Sequence[bool]) -> list[Shape]:
    """A tower with windows in two columns; `lit` says which of them are bright."""
    shapes = [Shape(box(x - width / 2, base - height, x + width / 2, base), wall, 1)]
    pane, row = 0.24 * width, 8.0
    for index, bright in enumerate(lit):
        left = x - 0.32 * width + (index % 2) * 0.4 * width
        top = base - height + 4.0 + row * (index // 2)
        if top + 5 > base:
            break
        shapes.append(
            Shape(box(left, top, left + pane, top + 4.5), (255, 224, 130) if bright else shade(wall, 0.72), -1)
        )
    return shapes


def lamp_post(x: float, base: float, size: float) -> list[Shape]:
    return [
        Shape(_at(box(-0.9, -25, 0.9, 0), x, base, size), (52, 56, 72), 1),
        Shape(_at(oval(0, -26.5, 3.4, 3.4), x, base, size), (255, 232, 150), 2),
    ]


def crater(x: float, base: float, size: float, ground: Colour) -> list[Shape]:
    return [
        Shape(_at(oval(0, 0, 9, 2.8), x, base, size), shade(ground, 1.22), 1),
        Shape(_at(oval(0, 0.5, 7.4, 1.9), x, base, size), shade(ground, 0.74), -1),
    ]


def rock(x: float, base: float, size: float, colour: Colour) -> list[Shape]:
    outline = polygon((-11, 0), (-9, -8), (-3, -13), (4, -11.5), (10, -6), (11.5, 0))
    light = polygon((-3, -13), (4, -11.5), (1, -6), (-6, -6.5))
    return [Shape(_at(outline, x, base, size), colour, 1), Shape(_at(light, x, base, size), shade(colour, 1.2), -1)]


def bush(x: float, base: float, size: float, leaves: Colour) -> list[Shape]:
    puffs = ((-8, -5, 7, 6), (8, -5, 7, 6), (0, -8, 8, 8), (0, -3, 13, 3.5))
    return [Shape(_at(oval(*puff), x, base, size), leaves, 2) for puff in puffs]


def hydrant(x: float, base: float, size: float) -> list[Shape]:
    red: Colour = (206, 66, 54)
    return [
        Shape(_at(box(-4, -14, 4, 0), x, base, size), red, 1),
        Shape(_at(oval(0, -14, 4.6, 4), x, base, size), red, 1),
        Shape(_at(box(-7.5, -10.5, 7.5, -6.5), x, base, size), shade(red, 0.8), 2),
    ]


def sand_castle(x: float, base: float, size: float, sand: Colour) -> list[Shape]:
    wall = polygon((-11, 0), (-10, -9), (10, -9), (11, 0))
    tower = polygon((-5, -8), (-4.5, -17), (4.5, -17), (5, -8))
    flag = polygon((0, -17), (0, -25), (6.5, -22.5))
    return [
        Shape(_at(flag, x, base, size), (214, 70, 60), 1),
        Shape(_at(wall, x, base, size), shade(sand, 0.84), 2),
        Shape(_at(tower, x, base, size), shade(sand, 0.9), 2),
    ]


def ridge(xs: Sequence[float], tops: Sequence[float], base: float, colour: Colour, group: int = 1) -> Shape:
    """A skyline through the points (xs, tops), filled down to `base`."""
    line = [*zip(xs, tops, strict=True), (xs[-1], base), (xs[0], base)]
    return Shape(polygon(*line), colour, group)


def snow_cap(x: float, top: float, slope: float) -> Shape:
    """White tip of a mountain whose sides fall by `slope` pixels a pixel."""
    deep = 7.0
    half = deep / slope
    corners = polygon(
        (x, top),
        (x + half, top + deep),
        (x + half / 3, top + 0.6 * deep),
        (x - half / 3, top + deep),
        (x - half, top + deep),
    )
    return Shape(corners, (250, 252, 255), -1)
