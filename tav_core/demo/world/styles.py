"""The two styles: flat colours, and ink lines over a faded wash on parchment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tav_core.demo.world.geometry import Colour, Shape

Rows = NDArray[np.float64]
PAPER: Colour = (224, 207, 170)
_PAPER = np.array(PAPER, float)
_LUMINANCE = np.array((0.299, 0.587, 0.114))


@dataclass(frozen=True, slots=True)
class Style:
    """outline: pixels. fade: share of colour that is lost. wash: share of the paper in what is left. Of figures, and of
    the place about them, which is the paler of the two."""

    place_outline: float
    figure_outline: float
    place_fade: float
    place_wash: float
    figure_wash: float

    def place(self, shapes: list[Shape]) -> list[Shape]:
        return _recoloured(shapes, self.place_fade, self.place_wash)

    def figure(self, shapes: list[Shape]) -> list[Shape]:
        return _recoloured(shapes, 0.0, self.figure_wash)

    def sky(self, rows: Rows) -> Rows:
        return faded(rows, self.place_fade, self.place_wash)


STYLES = {"flat": Style(0.0, 0.0, 0.0, 0.0, 0.0), "ink": Style(0.85, 1.1, 0.6, 0.45, 0.1)}


def faded(colours: Rows, fade: float, wash: float) -> Rows:
    """Colours (n, 3) in [0, 255] on their way to grey, then to the paper."""
    grey = (colours @ _LUMINANCE)[:, None]
    pale = colours + fade * (grey - colours)
    return pale + wash * (_PAPER - pale)


def _recoloured(shapes: list[Shape], fade: float, wash: float) -> list[Shape]:
    if not shapes or fade == wash == 0:
        return shapes
    colours = np.round(faded(np.array([shape.colour for shape in shapes], float), fade, wash)).astype(int).tolist()
    return [
        replace(shape, colour=(red, green, blue)) for shape, (red, green, blue) in zip(shapes, colours, strict=True)
    ]
