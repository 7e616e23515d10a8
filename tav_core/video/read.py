"""Read a clip from a video file: its frames, resized, and its sound.

Frames are chosen by their presentation time stamps, decoded one by one from the nearest key frame and resized at once.
Decoding stops after the last frame needed, so memory and time do not grow with the source's length. `memory.py` does
the same with frames in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import torch

from .choose import Request, check_count, check_request, check_size, chosen
from .decode import Source, open_source
from .media import Audio, VideoError, is_truncated
from .picture import PictureMaker
from .sound import read_audio
from .timed import TimedFrame


@dataclass(frozen=True, eq=False)
class VideoClip:
    """A clip.

    Attributes:
        frames: (f, h, w, 3) float32 in [0, 1].
        fps: of these frames.
        audio: the sound over the same time, or None.
        source_width, source_height: of the source as displayed (upright, square pixels).
        times: of the source frames that were taken, in seconds from the source's first frame.
    """

    frames: torch.Tensor
    fps: Fraction
    audio: Audio | None
    source_width: int
    source_height: int
    times: tuple[float, ...]


def read_video(
    path: str | os.PathLike[str],
    *,
    num_frames: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    stride: int | None = None,
    fps: float | Fraction | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: str = "crop",
    skip_frames: int = 0,
    fewer: bool = False,
    before_frame: Callable[[], object] | None = None,
) -> VideoClip:
    """Read frames of a video file, a GIF, a folder of images (in natural order) or an image pattern (frame_%04d.png).

    Arguments:
        path: a local file or folder.
        num_frames: how many frames to return, all of which are held in memory; None for all up to the end.
        start: seconds after the source's first frame; the frame nearest to it is the first of the clip.
        end: seconds after the source's first frame at which it is taken to end; None for its own end.
        stride: take every stride-th frame of the source (default 1).
        fps: in place of stride, take the frames nearest to start + k / fps; frames repeat if the source is slower. For
            images, which have no time stamps, it is the rate of the images (default 8), and all are taken.
        width, height: in pixels; with one of them the aspect ratio is the source's, with neither the size is.
        fit: to another aspect ratio: "crop" the middle, "pad" with black, or "stretch".
        skip_frames: frames of the source to leave out after `start`, before the first one of the clip; not with fps.
        fewer: whether a source with fewer than num_frames gives those that it has, in place of an error.
        before_frame: called before each frame is decoded; an exception of it ends the reading.

    Returns:
        The clip. Its fps is exactly fps, or the source's rate / stride; or the mean rate of the frames taken if their
        time stamps deviate from that by more than half a frame (variable frame rate).

    Raises:
        VideoError: if an argument is out of range, or a file is missing, empty, truncated, too short or not a video.
    """
    request = check_request(path, num_frames, start, stride, fps, end, skip_frames, fewer)
    check_size(width, height, fit)
    make_picture = PictureMaker(request.path, width, height, fit)
    pictures: list[np.ndarray] = []
    times: list[Fraction] = []
    try:
        with open_source(request.path, request.start, request.image_rate) as source:
            taken = islice(chosen(_until_end(source, request.end, before_frame), request), num_frames)
            for picture, time in _converted(taken, make_picture):
                pictures.append(picture)
                times.append(time)
        _check_length(request, len(pictures), source)
        rate = request.fps or _rate_of(times, source.rate / request.stride, source.rate)
        begin = source.origin + (times[0] if request.fps is None else request.start)
        audio = read_audio(request.path, begin, len(pictures) / rate) if source.has_audio else None
    except av.FFmpegError as error:
        raise _damaged(request, len(pictures), str(error)) from error
    size = make_picture.source_width, make_picture.source_height
    return VideoClip(_as_tensor(pictures), rate, audio, *size, tuple(float(time) for time in times))


def _until_end(source: Source, end: Fraction | None, before_frame: Callable[[], object] | None) -> Iterator[TimedFrame]:
    for timed in source:
        if end is not None and timed.time >= end:
            source.end = end
            return
        if before_frame is not None:
            before_frame()
        yield timed


def _converted(frames: Iterator[TimedFrame], make_picture: PictureMaker) -> Iterator[tuple[np.ndarray, Fraction]]:
    """Pictures and times of frames; a repeated frame is converted once."""
    last: TimedFrame | None = None
    for timed in frames:
        if timed is not last:
            picture, last = make_picture(timed), timed
        yield picture, timed.time


def _rate_of(times: list[Fraction], nominal: Fraction, source_rate: Fraction) -> Fraction:
    """The nominal rate if the times deviate from it by at most half a source frame, else the mean rate."""
    deviation = max(abs(time - times[0] - index / nominal) for index, time in enumerate(times))
    if 2 * deviation <= 1 / source_rate or times[-1] == times[0]:
        return nominal
    return ((len(times) - 1) / (times[-1] - times[0])).limit_denominator(100_000)


def _check_length(request: Request, count: int, source: Source) -> None:
    enough = count > 0 if request.num_frames is None else count >= request.num_frames
    if request.path.is_file() and (request.num_frames is None or not enough) and is_truncated(request.path):
        raise _damaged(request, count, "the file ends early")
    check_count(request, count, source.end)


def _damaged(request: Request, count: int, reason: str) -> VideoError:
    kind = "truncated" if request.path.is_file() and is_truncated(request.path) else "damaged"
    remedy = f", or request num_frames of at most {count}" if count else ""
    return VideoError(
        f"{request.path} is {kind}: {count} frames could be decoded {request} ({reason}). Get a complete copy{remedy}."
    )


def _as_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """uint8 or uint16 pictures (h, w, 3) -> (f, h, w, 3) float32 in [0, 1]."""
    frames = torch.empty((len(pictures), *pictures[0].shape), dtype=torch.float32)
    for frame, picture in zip(frames, pictures, strict=True):
        frame.copy_(torch.from_numpy(picture.astype(np.float32))).div_(float(np.iinfo(picture.dtype).max))
    return frames
