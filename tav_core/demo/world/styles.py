"""The two styles: flat colours, and ink lines over a watercolour wash on parchment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .geometry import Colour, Shape

Rows = NDArray[np.float64]
PAPER: Colour = (224, 207, 170)
_PAPER = np.array(PAPER, float)
_LUMINANCE = np.array((0.299, 0.587, 0.114))


@dataclass(frozen=True, slots=True)
class Paint:
    """How a colour comes out. fade: share of its way to grey. tint: share of the paper that shines through, as through
    watercolour. wash: share of its way to the paper."""

    fade: float = 0.0
    tint: float = 0.0
    wash: float = 0.0

    def __call__(self, colours: Rows) -> Rows:
        """Colours (n, 3) in [0, 255]."""
        grey = (colours @ _LUMINANCE)[:, None]
        painted = colours + self.fade * (grey - colours)
        painted = painted * (1 - self.tint * (1 - _PAPER / 255))
        return painted + self.wash * (_PAPER - painted)

    def shapes(self, shapes: list[Shape]) -> list[Shape]:
        if not shapes or self == Paint():
            return shapes
        colours = np.round(self(np.array([shape.colour for shape in shapes], float))).astype(int).tolist()
        return [
            replace(shape, colour=(red, green, blue)) for shape, (red, green, blue) in zip(shapes, colours, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Style:
    """Outlines in pixels, and paint, of figures and of the place about them."""

    place_outline: float
    figure_outline: float
    place_paint: Paint
    figure_paint: Paint

    def place(self, shapes: list[Shape]) -> list[Shape]:
        return self.place_paint.shapes(shapes)

    def figure(self, shapes: list[Shape]) -> list[Shape]:
        return self.figure_paint.shapes(shapes)

    def sky(self, rows: Rows) -> Rows:
        return self.place_paint(rows)


STYLES = {
    "flat": Style(0.0, 0.0, Paint(), Paint()),
    "ink": Style(0.85, 1.1, Paint(fade=0.3, tint=1.0, wash=0.1), Paint(wash=0.1)),
}
