"""Depth in the drawn world, and what a place consists of.

The ground is a plane seen from above it: from HORIZON down, disparity grows linearly and is 1 at FEET_ROW. Disparity is
1 / depth, with depth in units of the distance at FEET_ROW; a layer moves by its disparity times the camera's movement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import SIZE
from .geometry import Colour, Shape

HORIZON = 78.0
FEET_ROW = 108.0
SKY, FAR, MIDDLE = 0.02, 0.07, 0.22  # disparities
MIDDLE_ROW = HORIZON + MIDDLE * (FEET_ROW - HORIZON)
REACH = 80.0  # pixels that the camera moves at most, at disparity 1

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Layer:
    """Shapes at one depth, in pixels of the picture with the camera at 0."""

    disparity: float
    shapes: list[Shape]


@dataclass(frozen=True, slots=True)
class Place:
    """Colours and makers of one place. `detail` and `in_front` take x and row in pixels, and a size."""

    sky: tuple[Colour, Colour]  # at the top, at the horizon
    ground: Colour
    behind: Callable[[Rng], list[Layer]]
    middle: Callable[[Rng], list[Shape]]
    detail: Callable[[float, float, float], list[Shape]]
    in_front: Callable[[float, float, float], list[Shape]]


def disparity_at(row: float) -> float:
    """Disparity of the ground at a row of the picture, at least FAR."""
    return max(FAR, (row - HORIZON) / (FEET_ROW - HORIZON))


def spread(rng: Rng, spacing: float, jitter: float = 0.3, disparity: float = MIDDLE) -> list[float]:
    """Positions about `spacing` pixels apart, as far as the camera sees at this disparity."""
    beyond = REACH * disparity + 0.6 * spacing
    xs = np.arange(rng.uniform(-1, 0) * spacing - beyond, SIZE + beyond, spacing)
    return [float(x) for x in xs + spacing * rng.uniform(-jitter, jitter, len(xs))]
