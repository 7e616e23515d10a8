"""What reading and writing video share, without a decoder.

Paths that look like URLs are rejected, images of a sequence are sorted, frame rates are made exact fractions, and
truncated files are detected by their own headers.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from numbers import Rational, Real
from pathlib import Path
from typing import BinaryIO

import torch

from .. import checks
from ..atomic import replace

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+(:|,,)")  # two letters or more before the colon: C:\ is a drive
_NUMBER_FIELD = re.compile(r"%0?(\d{0,2})d")
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}  # by the number of channels
MAX_SIDE = 16_384  # pixels of a picture's width or height
MAX_PIXELS = 2**27  # of a picture of a source: 16,384 x 8,192
MAX_RATE = 1000  # frames per second, and seconds per frame


class VideoError(ValueError):
    """A video that cannot be read or written; the message gives the reason and the remedy."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound: samples (channels, n) float32 in [-1, 1], sample_rate in Hz."""

    samples: torch.Tensor
    sample_rate: int


def as_rate(fps: float | Fraction) -> Fraction:
    """Frames per second as an exact fraction; a float near n * 1000 / 1001 (29.97, 23.976) becomes that fraction.

    Numerator and denominator fit the 32 bits that file formats have for them.
    """
    if not isinstance(fps, Real) or isinstance(fps, bool) or not Fraction(1, MAX_RATE) <= fps <= MAX_RATE:
        limits = f"{1 / MAX_RATE:g} to {MAX_RATE}"
        raise VideoError(f"fps must be from {limits} frames per second, not {checks.shown(fps)}.")
    if isinstance(fps, Rational):
        return Fraction(int(fps.numerator), int(fps.denominator)).limit_denominator(2**20)
    fps = float(fps)
    if fps != round(fps):
        ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
        if abs(ntsc - fps) < 2e-4 * fps:
            return ntsc
    return Fraction(fps).limit_denominator(100_000)


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """As `checks.check_integer`; raises a VideoError."""
    checks.check_integer(name, value, low, high, VideoError)


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path as a `Path`.

    Raises:
        VideoError: if it is a URL or an FFmpeg protocol such as http: or concat:, or cannot be the name of a file.
    """
    local = checks.check_path(path, VideoError)
    try:
        exists = local.exists()
    except OSError as error:
        check_name_lengths(local)
        raise VideoError(f"{checks.shown(local)} is the path of no file ({error.strerror}): give another.") from error
    if _SCHEME.match(name := os.fspath(path)) and not exists:
        raise VideoError(f"{name!r} is a URL, and only local files are opened: give a path on this machine.")
    return local


def check_name_lengths(path: Path) -> None:
    """Raise a VideoError if the name of a file or of one of its folders is longer than file systems allow."""
    for name in path.parts:
        length = len(os.fsencode(name))
        if length > checks.LONGEST_NAME:
            raise VideoError(
                f"The name {checks.shown(name)} has {length} bytes; at most {checks.LONGEST_NAME} can be written: "
                "choose a shorter one."
            )


def frame_number(pattern: str, name: str) -> int | None:
    """The number of `name` in a printf pattern such as frame_%04d.png, or None if it does not match."""
    field = _NUMBER_FIELD.search(pattern)
    assert field is not None
    before, after = re.escape(pattern[: field.start()]), re.escape(pattern[field.end() :])
    match = re.fullmatch(rf"{before}(\d+){after}", name)
    return int(match.group(1)) if match else None


def numbered(pattern: str, number: int) -> str:
    """The file name of a number in a pattern with one number field; other percent signs are plain text."""
    return _NUMBER_FIELD.sub(lambda field: field[0] % number, pattern)


def is_pattern(name: str) -> bool:
    """Whether a file name holds exactly one number field such as %04d."""
    return len(_NUMBER_FIELD.findall(name)) == 1


def find_images(path: Path) -> list[Path]:
    """The images of a folder in natural order (2 before 10), or those that match a pattern; empty for a plain file.

    Raises:
        VideoError: if a folder holds no images, or no file matches a pattern.
    """
    if path.is_dir():
        images = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
        images = [file for file in images if not file.name.startswith(".")]
        if not images:
            raise VideoError(f"The folder {path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        return sorted(images, key=_natural_key)
    if not is_pattern(path.name) or path.exists():
        return []
    if not path.parent.is_dir():
        raise VideoError(f"The folder {path.parent} of the image sequence {path.name} does not exist.")
    numbered = [(frame_number(path.name, file.name), file) for file in path.parent.iterdir()]
    found = sorted((number, file) for number, file in numbered if number is not None)
    if not found:
        raise VideoError(f"No file in {path.parent} matches {path.name}.")
    return [file for _, file in found]


def _natural_key(file: Path) -> list[tuple[bool, int, str]]:
    parts = re.findall(r"[0-9]+|[^0-9]+", file.name.lower())
    return [(False, int(part), "") if part[0] in "0123456789" else (True, 0, part) for part in parts]


def is_truncated(path: Path) -> bool:
    """Whether a file is shorter than its own header states (MP4/MOV, Matroska/WebM, AVI, GIF)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"}:
            return _boxes_truncated(file, size)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _segment_truncated(file, size)
        if head[:4] == b"RIFF":
            return int.from_bytes(head[4:8], "little") + 8 > size
        if head[:3] == b"GIF":
            file.seek(max(0, size - 16))
            return not file.read().rstrip(b"\0").endswith(b";")
    return False


def _boxes_truncated(file: BinaryIO, size: int) -> bool:
    """ISO 14496-12: boxes of a 32-bit size and a type; size 1: 64 bits follow; size 0: to the end of the file."""
    position, kinds = 0, set()
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        kinds.add(header[4:8])
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:
            length = size - position
        if length < 8:
            return True
        position += length
    return position > size or not kinds & {b"moov", b"meta"}  # meta: the pictures of AVIF and HEIF


def _segment_truncated(file: BinaryIO, size: int) -> bool:
    """RFC 8794: the EBML header element, then the Segment with its size, all ones where it is unknown."""
    file.seek(4)
    header, _ = _ebml_size(file)
    if header > size:
        return True
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return True
    length, unknown = _ebml_size(file)
    return not unknown and file.tell() + length > size


def _ebml_size(file: BinaryIO) -> tuple[int, bool]:
    """A number whose first byte gives its width, and whether it means "unknown"; 0 at the end of the file."""
    first = int.from_bytes(file.read(1), "big")
    width = 9 - first.bit_length()
    value = int.from_bytes(bytes([first & (0xFF >> width)]) + file.read(width - 1), "big")
    return value, value == (1 << 7 * width) - 1


def rename_held(finished: Path, target: Path, error: PermissionError) -> VideoError:
    """Rename a file whose target another program has open to the first free name beside it: NAME-1.mp4, NAME-2.mp4, ...

    Returns:
        The error to raise.
    """
    candidates = (target.with_name(f"{target.stem}-{number}{target.suffix}") for number in count(1))
    free = next(path for path in candidates if not path.exists())
    replace(finished, free)
    return VideoError(f"{target} could not be replaced ({error}): is it open elsewhere? The video is in {free}.")
