"""Pictures that Pillow decodes: animated WebP, AVIF, and JPEG in TIFF.

FFmpeg up to version 8.1 does not decode animated WebP, leaves out the sequence and the alpha channel of AVIF, and shows
JPEG in TIFF, as Pillow writes it, black.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, features

from .media import MAX_PIXELS, MAX_SIDE, VideoError, is_truncated
from .timed import shown_duration

WEBP, AVIF, TIFF = "WEBP", "AVIF", "TIFF"
_ANIMATED = 0x02  # flag of a WebP file
_COMPRESSION, _JPEG = 259, (6, 7)  # a tag of TIFF, and its values for JPEG
# What Pillow raises for files that it cannot decode
_FAULTS = (OSError, ValueError, SyntaxError, EOFError, struct.error, RuntimeError, KeyError, TypeError, IndexError,
           OverflowError, MemoryError, Image.DecompressionBombError)  # fmt: skip


def pillow_kind(path: Path) -> str:
    """WEBP, AVIF or TIFF if Pillow decodes a file of this content better than FFmpeg, else an empty string."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 30:
        return WEBP if head[20] & _ANIMATED else ""
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return AVIF
    if head[:4] in (b"II*\0", b"MM\0*"):
        try:
            with Image.open(path, formats=[TIFF]) as image:
                return TIFF if image.tag_v2.get(_COMPRESSION) in _JPEG else ""
        except _FAULTS:
            return ""
    return ""


def is_animated_webp(path: Path) -> bool:
    """Whether a file's content begins as that of an animated WebP."""
    return pillow_kind(path) == WEBP


@contextmanager
def open_pictures(path: Path, kind: str) -> Iterator[Iterator[tuple[np.ndarray, Fraction]]]:
    """The pictures of a file in order, (h, w, 3) or (h, w, 4) uint8, and their durations in seconds.

    Arguments:
        kind: as `pillow_kind` gives it.

    Raises:
        VideoError: if the file cannot be decoded, or Pillow has no decoder for it; while they are read as well.
    """
    if kind == AVIF and not features.check("avif"):
        raise VideoError(f"{path} is an AVIF file, which needs Pillow 11.3 or newer: pip install --upgrade pillow.")
    if kind == WEBP:
        _raise_unless_small(path, *_webp_size(path))
    try:
        image = Image.open(path, formats=[kind])
    except _FAULTS as error:
        state = "truncated" if is_truncated(path) else "damaged"
        raise VideoError(f"{path} is {state} and cannot be opened ({error}): get a complete copy.") from error
    with image:
        _raise_unless_small(path, *image.size)
        yield _decoded(path, image)


def _decoded(path: Path, image: Image.Image) -> Iterator[tuple[np.ndarray, Fraction]]:
    count = getattr(image, "n_frames", 1) if image.format != TIFF else 1
    for index in range(count):
        try:
            image.seek(index)
            image.load()
            upright = ImageOps.exif_transpose(image) if count == 1 else image
            picture = np.array(upright.convert("RGBA" if image.has_transparency_data else "RGB"))
            milliseconds = int(image.info.get("duration", 0))
        except _FAULTS as error:
            state = "truncated" if is_truncated(path) else "damaged"
            raise VideoError(
                f"{path} is {state}: {index} pictures could be decoded ({error}). Get a complete copy."
            ) from error
        yield picture, shown_duration(Fraction(milliseconds, 1000))


def _webp_size(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        head = file.read(30)
    return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1


def _raise_unless_small(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise VideoError(f"The pictures of {path} have {width} x {height} pixels; at most {MAX_PIXELS} can be read.")
