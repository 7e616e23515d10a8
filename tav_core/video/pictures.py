"""Pictures that Pillow decodes: animated WebP, AVIF, JPEG in TIFF, and PNG and WebP that are to be turned.

FFmpeg up to version 8.1 does not decode animated WebP, leaves out the sequence and the alpha channel of AVIF, and shows
JPEG in TIFF, as Pillow writes it, black. Version 7.1 does not see that a PNG or WebP photo lies on its side.
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

WEBP, AVIF, TIFF, PNG = "WEBP", "AVIF", "TIFF", "PNG"
_ANIMATED, _EXIF = 0x02, 0x08  # flags of a WebP file
_PNG_HEAD = 2**16  # bytes in which EXIF data of a PNG are looked for
_ORIENTATION = 0x0112  # a tag of EXIF
_EIGHT_BITS = ("L", "LA", "P", "RGB", "RGBA")  # modes that Pillow brings to RGB without a loss
_COMPRESSION, _JPEG = 259, (6, 7)  # a tag of TIFF, and its values for JPEG
# What Pillow raises for files that it cannot decode
_FAULTS = (OSError, ValueError, SyntaxError, EOFError, struct.error, RuntimeError, KeyError, TypeError, IndexError,
           OverflowError, MemoryError, Image.DecompressionBombError)  # fmt: skip


def pillow_kind(path: Path) -> str:
    """WEBP, AVIF, TIFF or PNG if Pillow decodes a file of this content better than FFmpeg, else an empty string."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:8] == b"\x89PNG\r\n\x1a\n" and b"eXIf" in head + file.read(_PNG_HEAD):
            return PNG if _is_turned(path, PNG) else ""
    if _is_extended_webp(head):
        turned = head[20] & _EXIF and _is_turned(path, WEBP)
        return WEBP if head[20] & _ANIMATED or turned else ""
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
    with path.open("rb") as file:
        head = file.read(64)
    return _is_extended_webp(head) and bool(head[20] & _ANIMATED)


def _is_extended_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 30


def _is_turned(path: Path, kind: str) -> bool:
    """Whether a still picture is shown otherwise than it is stored, by its EXIF orientation."""
    try:
        with Image.open(path, formats=[kind]) as image:
            still = image.mode in _EIGHT_BITS and getattr(image, "n_frames", 1) == 1
            return still and image.getexif().get(_ORIENTATION, 1) != 1
    except _FAULTS:
        return False


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
