"""CIEDE2000, the difference between two colours as the eye sees it (CIE 142-2001; formulas as in Sharma, Wu and Dalal,
The CIEDE2000 color-difference formula, 2005). About 1 is just visible, 8 is another shade of the same colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def to_lab(colours: NDArray) -> Array:
    """sRGB in [0, 1], (..., 3), to CIE L*a*b* under D65."""
    values = np.asarray(colours, np.float64)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    relative = linear @ _TO_XYZ.T / _WHITE
    x, y, z = np.moveaxis(
        np.where(relative > 216 / 24389, np.cbrt(relative), (24389 / 27 * relative + 16) / 116), -1, 0
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(first: NDArray, second: NDArray) -> Array:
    """Difference of two pictures, sRGB in [0, 1], (..., 3): (...). Pixels that are equal cost next to nothing."""
    first, second = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    differ = (first != second).any(axis=-1)
    result = np.zeros(differ.shape)
    result[differ] = lab_difference(to_lab(first[differ]), to_lab(second[differ]))
    return result


def lab_difference(first: Array, second: Array) -> Array:
    """CIEDE2000 of colours in CIE L*a*b*, (n, 3) each: (n,)."""
    (l1, c1, h1), (l2, c2, h2) = _lch(first, second)
    mean_c, product = (c1 + c2) / 2, c1 * c2
    turn = h2 - h1
    turn = np.where(product == 0, 0.0, turn - 360 * np.round(turn / 360))
    mean_h = np.where(product == 0, h1 + h2, h1 + turn / 2)
    delta_h = 2 * np.sqrt(product) * _sin(turn / 2)
    weight = (
        1
        - 0.17 * _cos(mean_h - 30)
        + 0.24 * _cos(2 * mean_h)
        + 0.32 * _cos(3 * mean_h + 6)
        - 0.20 * _cos(4 * mean_h - 63)
    )
    off_grey = ((l1 + l2) / 2 - 50) ** 2
    light = (l2 - l1) / (1 + 0.015 * off_grey / np.sqrt(20 + off_grey))
    chroma = (c2 - c1) / (1 + 0.045 * mean_c)
    hue = delta_h / (1 + 0.015 * mean_c * weight)
    around_blue = 30 * np.exp(-((((mean_h % 360) - 275) / 25) ** 2))
    rotation = -2 * _sin(2 * around_blue) * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7))
    return np.sqrt(np.maximum(0.0, light**2 + chroma**2 + hue**2 + rotation * chroma * hue))


def _lch(first: Array, second: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """Lightness, chroma and hue (degrees), a* stretched where colours are pale, as CIEDE2000 has it."""
    mean = (np.hypot(first[..., 1], first[..., 2]) + np.hypot(second[..., 1], second[..., 2])) / 2
    stretch = 1 + 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25.0**7)))

    def polar(lab: Array) -> tuple[Array, Array, Array]:
        a, b = lab[..., 1] * stretch, lab[..., 2]
        return lab[..., 0], np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360

    return polar(first), polar(second)


def _sin(degrees: Array) -> Array:
    return np.sin(np.radians(degrees))


def _cos(degrees: Array) -> Array:
    return np.cos(np.radians(degrees))
