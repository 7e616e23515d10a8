"""The choice of a clip's frames by their time stamps, and the checks of the arguments that choose them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from numbers import Real
from pathlib import Path
from typing import TypeVar

from ..checks import shown
from .media import MAX_SIDE, VideoError, as_rate, check_integer, find_images, local_path
from .timed import Timed

_DEFAULT_IMAGE_RATE = Fraction(8)
_MAX_COUNT = 10**9  # frames
_MAX_START = 10**7  # seconds
FITS = ("crop", "pad", "stretch")


T = TypeVar("T", bound=Timed)


@dataclass(frozen=True)
class Request:
    """The checked arguments of `read_video` that choose frames."""

    path: Path
    num_frames: int | None
    start: Fraction
    stride: int
    fps: Fraction | None
    image_rate: Fraction
    end: Fraction | None = None
    skip_frames: int = 0
    fewer: bool = False

    def __str__(self) -> str:
        pace = f"stride={self.stride}" if self.fps is None else f"fps={self.fps}"
        skipped = f" and skip_frames={self.skip_frames}" if self.skip_frames else ""
        return f"from start={float(self.start):g} s with {pace}{skipped}"


def check_request(
    path: str | os.PathLike[str],
    num_frames: int | None,
    start: float,
    stride: int | None,
    fps: float | Fraction | None,
    end: float | None = None,
    skip_frames: int = 0,
    fewer: bool = False,
) -> Request:
    """Check the arguments that choose frames.

    Raises:
        VideoError: if one is out of range, or if both stride and fps are given.
    """
    if stride is not None and fps is not None:
        raise VideoError("stride and fps both choose the frames: give one of them.")
    if num_frames is not None:
        check_integer("num_frames", num_frames, 1, _MAX_COUNT)
    if stride is not None:
        check_integer("stride", stride, 1, _MAX_COUNT)
    check_integer("skip_frames", skip_frames, 0, _MAX_COUNT)
    if skip_frames and fps is not None:
        raise VideoError("skip_frames counts frames of the source and fps does not: give a later start.")
    _check_time("start", start)
    if end is not None:
        _check_time("end", end)
        if not end > start:
            raise VideoError(f"end must be after start={start:g} s, not {end:g} s.")
    rate, image_rate = None if fps is None else as_rate(fps), _DEFAULT_IMAGE_RATE
    local = local_path(path)
    if find_images(local):  # they have no time stamps
        rate, image_rate = None, rate or image_rate
    last = None if end is None else _exact(end)
    return Request(local, num_frames, _exact(start), stride or 1, rate, image_rate, last, skip_frames, fewer)


def _check_time(name: str, value: float) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= _MAX_START:
        raise VideoError(f"{name} must be a time from 0 to {_MAX_START} seconds, not {shown(value)}.")


def _exact(seconds: float) -> Fraction:
    return Fraction(float(seconds)).limit_denominator(1_000_000)


def check_size(width: int | None, height: int | None, fit: str) -> None:
    """Raise a VideoError unless the sides are positive, not too large or None, and `fit` is one of `FITS`."""
    for name, value in (("width", width), ("height", height)):
        if value is not None:
            check_integer(name, value, 1, MAX_SIDE)
    if fit not in FITS:
        raise VideoError(f"fit must be one of {', '.join(FITS)}, not {shown(fit)}.")


def chosen(frames: Iterator[T], request: Request) -> Iterator[T]:
    """The frames that a request asks for, however many there are."""
    if request.fps is None:
        return every_nth(frames, request.start, request.stride, request.skip_frames)
    return at_rate(frames, request.start, request.fps)


def every_nth(frames: Iterator[T], start: Fraction, stride: int, skip: int = 0) -> Iterator[T]:
    """Every stride-th frame from the one on that comes `skip` frames after the one nearest to `start`."""
    before = None
    for frame in frames:
        if frame.time >= start:
            break
        before = frame
    else:
        if before is not None and before.time + before.duration > start and not skip:
            yield before
        return
    early = before is not None and start - before.time <= frame.time - start
    head = [before, frame] if before is not None and early else [frame]
    yield from islice(chain(head, frames), skip, None, stride)


def at_rate(frames: Iterator[T], start: Fraction, fps: Fraction) -> Iterator[T]:
    """For each time start + k / fps before the end, the frame nearest to it (the earlier of two equally near)."""
    current, moment = next(frames, None), start
    if current is None:
        return
    for following in frames:
        while 2 * moment <= current.time + following.time:
            yield current
            moment += 1 / fps
        current = following
    while moment < current.time + current.duration:
        yield current
        moment += 1 / fps


def check_count(request: Request, count: int, end: Fraction) -> None:
    """Raise a VideoError if a video that ends at `end` gave fewer frames than were requested."""
    if count >= (1 if request.fewer else request.num_frames or 1):
        return
    if count == 0:
        raise VideoError(
            f"{request.path} lasts {float(end):.3f} s and has no frame {request}: choose an earlier start."
        )
    raise VideoError(
        f"{request.path} has {count} frames {request}, but num_frames={request.num_frames} were requested:"
        f" ask for at most {count}."
    )
