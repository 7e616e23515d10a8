"""A place under one layout: its sky, its ground and the layers of things that stand on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .canvas import SIZE, SUPER
from .geometry import Colour
from .landscapes import PLACES
from .layers import HORIZON, MIDDLE, Layer, Place, Rng, disparity_at, spread


@dataclass(frozen=True, slots=True)
class Layout:
    sky: NDArray[np.float64]  # (SIZE * SUPER, 3) in [0, 255]: one colour a row
    ground: Colour
    layers: list[Layer]  # from back to front; the first lie behind the ground
    num_behind: int


@lru_cache(maxsize=64)
def layout(name: str, seed: int) -> Layout:
    """The layers of a place under one layout, with the camera at 0."""
    place = PLACES[name]
    rng = np.random.default_rng((seed, sum(map(ord, name))))
    share = np.clip(np.arange(SIZE * SUPER) / (HORIZON * SUPER), 0, 1)[:, None]
    sky = (1 - share) * np.array(place.sky[0], float) + share * np.array(place.sky[1], float)
    behind = place.behind(rng)
    layers = [*behind, Layer(MIDDLE, place.middle(rng)), *_details(rng, place)]
    return Layout(sky, place.ground, layers, len(behind))


def _details(rng: Rng, place: Place) -> Iterator[Layer]:
    for row in (90.0, 99.0, 111.0, 121.0):
        size = disparity_at(row)
        shapes = [
            s
            for x in spread(rng, 46.0 * size + 14, disparity=size)
            for s in place.detail(x, row + rng.uniform(-2, 2), size)
        ]
        yield Layer(size, shapes)
