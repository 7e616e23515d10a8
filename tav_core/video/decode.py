"""Local video files and image folders as a stream of timed frames, by PyAV / FFmpeg and, for some pictures, Pillow.

Sound is read in sound.py.

No file but the one named is ever opened: Python opens it, and FFmpeg gets the open file object, a list of plain media
formats (no playlists or scripts that name other files) and no network or file protocol at all. Times are exact
fractions of a second from the beginning of the video track.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from .colour import Colours
from .interlace import deinterlaced
from .media import IMAGE_SUFFIXES, VideoError, find_images, is_truncated
from .pictures import open_pictures, pillow_kind
from .timed import TimedFrame, shown_duration
from .tracks import DECODER_OPTIONS, frames_of, video_track

SEEK_MARGIN = Fraction(1)  # seconds decoded before the requested time, so that decoders have settled by then
CLOCK_RESET = Fraction(1)  # seconds; time stamps that jump back further come from joined recordings, not from jitter
_FORMATS = (
    "mov,matroska,avi,dv,gif,apng,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,yuv4mpegpipe,h264,hevc,m4v,obu,webp,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
_OPEN_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
# Metadata that are not UTF-8 would be an error before PyAV 19.
_METADATA: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@dataclass
class Source:
    """An open video: its frames in presentation order, frames per second, and time 0 on the file's own clock."""

    frames: Iterator[TimedFrame]
    rate: Fraction
    origin: Fraction
    has_audio: bool
    end: Fraction = Fraction(0)  # of the last frame that was decoded so far

    def __iter__(self) -> Iterator[TimedFrame]:
        for timed in self.frames:
            self.end = timed.time + timed.duration
            yield timed


@contextmanager
def open_source(path: Path, start: Fraction, image_rate: Fraction) -> Iterator[Source]:
    """Open a video file, a folder of images or an image pattern, to decode from `start` seconds or shortly before.

    Raises:
        VideoError: if it is missing, empty or not a video.
    """
    images = find_images(path)
    if images:
        yield Source(_image_frames(images, start, image_rate), image_rate, Fraction(0), has_audio=False)
        return
    with open_frames(path, start) as source:
        yield source


@contextmanager
def open_frames(path: Path, start: Fraction = Fraction(0)) -> Iterator[Source]:
    """Open one file, a video or a picture. Arguments and errors as `open_source`."""
    kind = pillow_kind(path) if path.is_file() else ""
    if kind:
        with open_pictures(path, kind) as pictures:
            first = next(pictures)
            yield Source(_pillow_frames(chain([first], pictures)), 1 / first[1], Fraction(0), has_audio=False)
        return
    with open_file(path) as container:
        stream = video_track(container, path)
        rate = stream.guessed_rate or stream.average_rate or Fraction(25)
        rate = 1 / shown_duration(1 / rate) if _is_animation(container) else rate
        origin = (stream.start_time or 0) * (stream.time_base or Fraction(1))
        frames = deinterlaced(_frames_from(container, stream, path, start, rate))
        yield Source(frames, rate, origin, has_audio=bool(container.streams.audio))


def _pillow_frames(pictures: Iterable[tuple[np.ndarray, Fraction]]) -> Iterator[TimedFrame]:
    time = Fraction(0)
    for picture, duration in pictures:
        kind = "rgba" if picture.shape[2] == 4 else "rgb24"
        yield TimedFrame(time, duration, av.VideoFrame.from_ndarray(picture, format=kind))
        time += duration


@contextmanager
def open_file(path: Path) -> Iterator[InputContainer]:
    """Open a file, whose format is detected from its content.

    Raises:
        VideoError: if it is missing, empty, truncated or in an unsupported format.
    """
    if not path.exists():
        raise VideoError(f"There is no file {path}: check its name.")
    if path.stat().st_size == 0:
        raise VideoError(f"The file {path} is empty (0 bytes): get a complete copy.")
    with path.open("rb") as file:
        # FFmpeg takes an open file with the name of an image for a sequence, whose other files it opens itself.
        content = BytesIO(file.read()) if path.suffix.lower() in IMAGE_SUFFIXES else file
        # PyAV before 17.1 crashes if it has options for decoders and streams appear later, as in FLV and MPEG-PS.
        decoders: Any = {"options": dict(DECODER_OPTIONS)} if content is not file else {}
        try:
            container = av.open(content, "r", container_options=dict(_OPEN_OPTIONS), **decoders, **_METADATA)
        except (av.FFmpegError, OSError, ValueError) as error:
            if is_truncated(path):
                raise VideoError(f"The file {path} is truncated and cannot be opened: get a complete copy.") from error
            raise VideoError(f"The file {path} is not a video in a supported format: convert it to .mp4.") from error
        with container:
            yield container


def _frames_from(
    container: InputContainer, stream: VideoStream, path: Path, start: Fraction, rate: Fraction
) -> Iterator[TimedFrame]:
    """Decode from a key frame at or before `start`, or from the beginning if the format cannot seek there."""
    base, first = stream.time_base or Fraction(1), stream.start_time or 0
    frames = _decode(container, stream, rate)
    if start > SEEK_MARGIN and not (_stores_decoding_times(container, stream) or _is_animation(container)):
        head = None
        try:
            container.seek(first + int((start - SEEK_MARGIN) / base), stream=stream)
            head = next(frames, None)
        except av.FFmpegError:
            pass
        if head is None or head.time > start:
            with open_file(path) as again:  # such formats cannot seek back to the beginning either
                yield from _decode(again, video_track(again, path), rate)
            return
        yield head
    yield from frames


def _decode(container: InputContainer, stream: VideoStream, rate: Fraction) -> Iterator[TimedFrame]:
    base, first = stream.time_base or Fraction(1), stream.start_time or 0
    container_colours, codec = Colours.stated_by(stream.codec_context), stream.codec_context.name
    animation = _is_animation(container)
    time, duration, offset = -1 / rate, 1 / rate, Fraction(0)
    for stamp, frame in _stamped(container, stream):
        before = time
        time += duration if animation else 1 / rate
        if stamp is not None and not animation:
            time = (stamp - first) * base + offset
        if time < before - CLOCK_RESET:
            offset += before + 1 / rate - time
            time = before + 1 / rate
        duration = frame.duration * base if frame.duration else 1 / rate
        if animation:
            duration = shown_duration(duration)
        colours = Colours.stated_by(frame).otherwise(container_colours)
        yield TimedFrame(time, duration, frame, stream.sample_aspect_ratio or Fraction(1), colours, codec)


def _stamped(container: InputContainer, stream: VideoStream) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Frames with their time stamps; decoding times, if only these are stored, go to frames in presentation order."""
    if not _stores_decoding_times(container, stream):
        for frame in frames_of(container, stream):
            yield frame.pts, frame
        return
    stamps: deque[int | None] = deque()
    for packet in container.demux(stream):
        if packet.size:
            stamps.append(packet.dts)
        for frame in packet.decode():
            yield (stamps.popleft() if stamps else None), frame


def _is_animation(container: InputContainer) -> bool:
    """Whether the times of frames follow from their durations as browsers show them: GIF and animated PNG."""
    return container.format.name in ("gif", "apng")


def _stores_decoding_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether a file stores decoding times in place of presentation times: AVI with B-frames."""
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def _image_frames(images: list[Path], start: Fraction, rate: Fraction) -> Iterator[TimedFrame]:
    skipped = max(0, int(start * rate) - 1)
    for index, image in enumerate(images[skipped:], skipped):
        try:
            with open_frames(image) as source:
                timed = next(source.frames)
        except (av.FFmpegError, StopIteration) as error:
            raise VideoError(f"The image {image} is damaged or truncated: get a complete copy.") from error
        yield replace(timed, time=index / rate, duration=1 / rate)
