"""The colours that a stream and its container state, and the conversion of HDR and wide gamut to BT.709.

Codes are those of ISO 23091-2 (ITU-T H.273). HDR becomes display light as in ITU-R BT.2100: PQ in absolute units, HLG
of a display of 1,000 cd/m2. The system gamma of HLG, 1.2, acts on each channel, as in zimg, by which most such files
are made and converted, and not on luminance; neutral colours are the same. Reference white, 203 cd/m2 (ITU-R BT.2408),
becomes 1.0. Light up to `KNEE` is unchanged; brighter light is compressed smoothly, by the same factor in all channels.
Display light of SDR is that of ITU-R BT.1886, a power of 2.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .media import VideoError

UNSPECIFIED, FULL_RANGE, LIMITED_RANGE = 2, 2, 1  # a code; AVCOL_RANGE_JPEG; AVCOL_RANGE_MPEG
BT709_PRIMARIES, BT2020_PRIMARIES = 1, 9
LINEAR, SRGB, PQ, HLG = 8, 13, 16, 18
KNEE = 0.7  # of reference white, in linear light
_WHITE = 203.0  # cd/m2, of HDR reference white (BT.2408)
_HLG_PEAK, _PQ_PEAK = 1000.0, 10_000.0  # cd/m2
_STRIP = 2**17  # pixels that are converted at a time
# FFmpeg's names for its scale filter
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
_UNSUPPORTED_MATRICES = {
    8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "SMPTE ST 2085", 13: "chromaticity-derived", 14: "ICtCp",
    15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro",
}  # fmt: skip
_UNSUPPORTED_TRANSFERS = {9: "logarithmic", 10: "logarithmic"}
_D65 = (0.3127, 0.3290)
_CHROMATICITIES = {  # x, y of red, green and blue
    BT709_PRIMARIES: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    BT2020_PRIMARIES: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # P3, here with the white of 12
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_WIDE = {BT2020_PRIMARIES, 11, 12}
_GAMMAS = {4: 2.2, 5: 2.8, 17: 2.6}  # of other SDR curves than BT.1886


@dataclass(frozen=True)
class Colours:
    """ISO 23091-2 codes of matrix, primaries and transfer, 2 if unspecified; FFmpeg's code of the range, 0 likewise."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    range: int = 0

    @classmethod
    def stated_by(cls, source: Any) -> Colours:
        """Those of an av.VideoFrame or of a codec context; frames of PyAV 15 have no primaries and transfer."""
        primaries, transfer = getattr(source, "color_primaries", 0), getattr(source, "color_trc", 0)
        matrix, width = int(source.colorspace), int(source.color_range)
        return cls(matrix, int(primaries) or UNSPECIFIED, int(transfer) or UNSPECIFIED, width)

    def otherwise(self, other: Colours) -> Colours:
        """These, and the other's where they are unspecified."""
        return Colours(
            other.matrix if self.matrix == UNSPECIFIED else self.matrix,
            other.primaries if self.primaries == UNSPECIFIED else self.primaries,
            other.transfer if self.transfer == UNSPECIFIED else self.transfer,
            self.range or other.range,
        )

    def matrix_name(self, width: int, height: int) -> str:
        """FFmpeg's name of the matrix from YUV to RGB; unstated, BT.709 for high definition and BT.601 below."""
        if self.matrix == 12:  # derived from the primaries, without constant luminance
            return "bt2020" if self.primaries == BT2020_PRIMARIES else "bt709"
        default = "bt709" if width >= 1280 or height > 576 else "bt601"
        if self.matrix == UNSPECIFIED and self.primaries == BT2020_PRIMARIES:
            default = "bt2020"
        return _MATRICES.get(self.matrix, default)

    def raise_unless_supported(self, name: str) -> None:
        """Raise a VideoError for a matrix or transfer curve that is not converted."""
        kind = _UNSUPPORTED_MATRICES.get(self.matrix) or _UNSUPPORTED_TRANSFERS.get(self.transfer)
        if kind is not None:
            raise VideoError(f"The colours of {name} are {kind}, which is not supported: convert it to BT.709.")


UNSTATED = Colours()


def to_bt709(picture: np.ndarray, colours: Colours) -> np.ndarray:
    """Convert a picture (h, w, 3), uint8 or uint16, to the primaries of BT.709 and the curve of SDR; same type."""
    if colours.transfer not in (PQ, HLG, LINEAR) and colours.primaries not in _WIDE:
        return picture
    top = np.iinfo(picture.dtype).max
    to_linear, to_code = _curves(colours.transfer, top)
    matrix = _to_bt709_primaries(colours.primaries).astype(np.float32)
    converted = np.empty_like(picture)
    rows = max(1, _STRIP // picture.shape[1])
    for first in range(0, len(picture), rows):
        light = to_linear[picture[first : first + rows]] @ matrix.T
        np.maximum(light, 0, out=light)
        if colours.transfer in (PQ, HLG):
            light *= _tone_factor(light.max(-1, keepdims=True), _peak(colours.transfer))
        index = np.sqrt(np.minimum(light, 1)) * (len(to_code) - 1) + 0.5
        converted[first : first + rows] = to_code[index.astype(np.uint16)]
    return converted


def _tone_factor(light: np.ndarray, peak: float) -> np.ndarray:
    """The factor that compresses light above the knee so that `peak` becomes 1, by Reinhard's curve."""
    room = 1 - KNEE
    over = np.maximum(light - KNEE, 0) / room
    limit = (peak - KNEE) / room
    mapped = KNEE + room * over * (1 + over / limit**2) / (1 + over)
    return np.where(light > KNEE, mapped / np.maximum(light, KNEE), 1).astype(np.float32)


def _peak(transfer: int) -> float:
    return (_HLG_PEAK if transfer == HLG else _PQ_PEAK) / _WHITE


@cache
def _curves(transfer: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear light by code, float32 (top + 1,); and the code of SDR by the square root of light, (65536,)."""
    codes = np.linspace(0, 1, top + 1)
    roots = np.linspace(0, 1, 2**16)
    decode, encode = _functions(transfer)
    kind = np.uint8 if top == 255 else np.uint16
    return decode(codes).astype(np.float32), np.round(encode(roots**2) * top).astype(kind)


Curve = Callable[[np.ndarray], np.ndarray]


def _functions(transfer: int) -> tuple[Curve, Curve]:
    """From codes in [0, 1] to display light, and from light in [0, 1] to codes of SDR."""
    if transfer == PQ:
        return _pq_light, lambda light: light ** (1 / 2.4)
    if transfer == HLG:
        return _hlg_light, lambda light: light ** (1 / 2.4)
    if transfer in (LINEAR, SRGB):
        return (_srgb_light if transfer == SRGB else np.positive), _srgb_code
    gamma = _GAMMAS.get(transfer, 2.4)
    return lambda code: code**gamma, lambda light: light ** (1 / gamma)


def _pq_light(code: np.ndarray) -> np.ndarray:
    """The EOTF of SMPTE ST 2084, in units of reference white."""
    m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
    root = code ** (1 / m2)
    return (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * (_PQ_PEAK / _WHITE)


def _hlg_light(code: np.ndarray) -> np.ndarray:
    """The inverse OETF of BT.2100's HLG and its system gamma, in units of reference white."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return scene**1.2 * (_HLG_PEAK / _WHITE)


def _srgb_light(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _srgb_code(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


@cache
def _to_bt709_primaries(primaries: int) -> np.ndarray:
    """The 3x3 matrix of linear light (SMPTE RP 177)."""
    return np.linalg.inv(_to_xyz(BT709_PRIMARIES)) @ _to_xyz(primaries if primaries in _WIDE else BT709_PRIMARIES)


def _to_xyz(primaries: int) -> np.ndarray:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _CHROMATICITIES[primaries]]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))
