"""Read a picture of the demo world back into the words and the place that it shows. Nothing here is learned.

The background is the one whose drawing lies closest to most pixels, the object is what stands out from it, its colour
is the nearest colour word, and its shape is the one whose drawing, at the object's centre and area, overlaps it best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from . import shapes as world

COLOUR_TOLERANCE = 0.2  # largest distance in RGB, each channel in [0, 1], at which a colour still bears its name
STANDS_OUT = 0.17  # distance in RGB from which a pixel belongs to the object
LEAST_AREA = 250  # pixels; the smallest object drawn covers about 700
MOST_AREA = world.SIZE**2 // 3  # pixels; what covers more is no object on a ground
LEAST_OVERLAP = 0.7  # intersection over union of a shape with its drawing
SECOND_OBJECT = 0.2  # share of the object's area from which another patch counts as a second object


@dataclass(frozen=True)
class Reading:
    """What a picture shows. A word is None where the picture shows none clearly, and so is the place without an object.

    x, y: centre of the object's area, in pixels. radius: of the disc of the same area. overlap: intersection over union
    of the object with the drawing of the shape that fits best.
    """

    shape: str | None
    colour: str | None
    background: str | None
    x: float | None = None
    y: float | None = None
    radius: float | None = None
    overlap: float = 0.0

    def shows(self, scene: world.Scene) -> bool:
        """Whether shape, colour and background are those of `scene`; the position does not count."""
        return (self.shape, self.colour, self.background) == (scene.shape, scene.colour, scene.background)

    def distance(self, scene: world.Scene) -> float:
        """Distance in pixels from the scene's position; without an object, the size of the picture."""
        if self.x is None or self.y is None:
            return float(world.SIZE)
        return float(np.hypot(self.x - scene.x, self.y - scene.y))


def read(picture: np.ndarray) -> Reading:
    """Read one picture, (SIZE, SIZE, 3) in [0, 1]."""
    if picture.shape != (world.SIZE, world.SIZE, 3):
        raise ValueError(f"The judge reads pictures of {world.SIZE} x {world.SIZE} pixels, got {picture.shape}.")
    picture = np.asarray(picture, dtype=np.float32)
    background, ground = _read_background(picture)
    mask, alone = _find_object(np.linalg.norm(picture - ground, axis=-1) > STANDS_OUT)
    if mask.sum() < LEAST_AREA:
        return Reading(None, None, background)
    colour = _read_colour(picture[cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0])
    if colour is not None:  # with the colour known, the border runs where object and ground weigh the same
        ink = np.asarray(world.COLOURS[colour], dtype=np.float32) / 255
        near = np.linalg.norm(picture - ink, axis=-1) < np.linalg.norm(picture - ground, axis=-1)
        mask, alone = _find_object(near)
    if mask.sum() < LEAST_AREA:
        return Reading(None, None, background)
    y, x = (float(v.mean()) + 0.5 for v in np.nonzero(mask))
    shape, overlap = _read_shape(mask, x, y)
    clear = alone and overlap >= LEAST_OVERLAP and mask.sum() <= MOST_AREA
    return Reading(shape if clear else None, colour, background, x, y, _radius(mask), overlap)


def _read_background(picture: np.ndarray) -> tuple[str | None, np.ndarray]:
    def gap(name: str) -> float:
        return float(np.median(np.linalg.norm(picture - world.draw_background(name), axis=-1)))

    best = min(world.BACKGROUNDS, key=gap)
    return (best if gap(best) < COLOUR_TOLERANCE / 2 else None), world.draw_background(best)


def _find_object(candidates: np.ndarray) -> tuple[np.ndarray, bool]:
    """The largest connected patch, and whether no second one comes near it in size."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(candidates.astype(np.uint8), connectivity=4)
    if count == 1:
        return np.zeros(candidates.shape, dtype=bool), False
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = int(areas.argmax())
    rest = np.delete(areas, largest)
    alone = not rest.size or rest.max() < SECOND_OBJECT * areas[largest]
    return labels == largest + 1, bool(alone)


def _read_colour(pixels: np.ndarray) -> str | None:
    if not len(pixels):
        return None
    middle = np.median(pixels, axis=0)
    gaps = {name: float(np.linalg.norm(middle - np.asarray(rgb) / 255)) for name, rgb in world.COLOURS.items()}
    best = min(gaps, key=gaps.__getitem__)
    return best if gaps[best] < COLOUR_TOLERANCE else None


def _read_shape(mask: np.ndarray, x: float, y: float) -> tuple[str, float]:
    overlaps = {}
    for shape in world.SHAPES:
        drawn = world.draw_mask(shape, x, y, float(np.sqrt(mask.sum() / _unit_area(shape)))) > 0.5
        overlaps[shape] = float((mask & drawn).sum() / (mask | drawn).sum())
    best = max(overlaps, key=overlaps.__getitem__)
    return best, overlaps[best]


def _radius(mask: np.ndarray) -> float:
    return float(np.sqrt(mask.sum() / np.pi))


@cache
def _unit_area(shape: str) -> float:
    radius = 40.0
    return float(world.draw_mask(shape, world.SIZE / 2, world.SIZE / 2, radius).sum() / radius**2)
