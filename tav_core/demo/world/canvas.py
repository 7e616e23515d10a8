"""Drawing polygons at three times the resolution, in colour and as labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import Colour, Points, Shape

SIZE = 128  # pixels of a picture, both ways
SUPER = 3  # samples a pixel, each way
INK: Colour = (38, 32, 44)
_FRACTION_BITS = 4

Pixels = NDArray[np.uint8]


class Canvas:
    """A picture in the making: colours (s, s, 3) and labels (s, s), uint8, s = SIZE * SUPER."""

    def __init__(self) -> None:
        side = SIZE * SUPER
        self.colours: Pixels = np.zeros((side, side, 3), np.uint8)
        self.labels: Pixels = np.zeros((side, side), np.uint8)

    def copy(self) -> Canvas:
        other = Canvas.__new__(Canvas)
        other.colours, other.labels = self.colours.copy(), self.labels.copy()
        return other

    def gradient(self, rows: NDArray[np.float64]) -> None:
        """Fill all of it with one colour a row: (s, 3) in [0, 255]. Labels become 0."""
        self.colours[:] = np.round(rows).astype(np.uint8)[:, None]
        self.labels[:] = 0

    def paint(self, shapes: Sequence[Shape], labels: Sequence[int], outline: float, shift: float = 0.0) -> None:
        """Fill shapes in their order, `shift` pixels to the right.

        Arguments:
            labels: one for each shape.
            outline: width in pixels of the ink line outside the union of each group; 0 for none. Group -1 has none.
        """
        for group, members in groupby(zip(shapes, labels, strict=True), key=lambda pair: pair[0].group):
            fixed = [(_fixed(shape.points, shift), shape, label) for shape, label in members]
            if outline and group >= 0:
                width = round(2 * outline * SUPER)
                for corners, _, label in fixed:
                    cv2.polylines(self.colours, [corners], True, INK, width, cv2.LINE_8, _FRACTION_BITS)
                    cv2.polylines(self.labels, [corners], True, label, width, cv2.LINE_8, _FRACTION_BITS)
            for corners, shape, label in fixed:
                cv2.fillPoly(self.colours, [corners], shape.colour, cv2.LINE_8, _FRACTION_BITS)
                cv2.fillPoly(self.labels, [corners], label, cv2.LINE_8, _FRACTION_BITS)

    def picture(self) -> Pixels:
        """(SIZE, SIZE, 3) uint8, the mean of the samples of each pixel."""
        return cv2.resize(self.colours, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    def label_map(self) -> Pixels:
        """(SIZE, SIZE) uint8, the label in the middle of each pixel."""
        return np.ascontiguousarray(self.labels[SUPER // 2 :: SUPER, SUPER // 2 :: SUPER])

    def coverage(self, first: int) -> NDArray[np.float32]:
        """(SIZE, SIZE) in [0, 1], the share of each pixel with labels of at least `first`."""
        inside = (self.labels >= first).astype(np.float32)
        return cv2.resize(inside, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _fixed(points: Points, shift: float) -> NDArray[np.int32]:
    samples = (points + (shift, 0.0)) * SUPER - 0.5
    return np.round(samples * (1 << _FRACTION_BITS)).astype(np.int32)
