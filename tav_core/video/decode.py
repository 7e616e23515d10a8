"""Local video files and image folders as a stream of timed frames (PyAV / FFmpeg); their sound is read in sound.py.

No file but the one named is ever opened: Python opens it, and FFmpeg gets the open file object, a list of plain media
formats (no playlists or scripts that name other files) and no network or file protocol at all. Times are exact
fractions of a second from the beginning of the video track.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from .choose import Timed
from .media import IMAGE_SUFFIXES, MAX_PIXELS, VideoError, find_images, is_truncated

SEEK_MARGIN = Fraction(1)  # seconds decoded before the requested time, so that decoders have settled by then
CLOCK_RESET = Fraction(1)  # seconds; time stamps that jump back further come from joined recordings, not from jitter
_FORMATS = (
    "mov,matroska,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,yuv4mpegpipe,h264,hevc,m4v,obu,webp,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
_LARGE = 2**23  # pixels of a picture; 4K has 8.8 million
_DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
_OPEN_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "none", **_DECODER_OPTIONS}
# Metadata that are not UTF-8 would be an error before PyAV 19.
_METADATA: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@dataclass(frozen=True)
class TimedFrame(Timed):
    """A decoded frame, and the width of a pixel over its height."""

    frame: av.VideoFrame
    pixel_aspect: Fraction


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
    with open_file(path) as container:
        stream = _video_stream(container, path)
        rate = stream.guessed_rate or stream.average_rate or Fraction(25)
        origin = (stream.start_time or 0) * (stream.time_base or Fraction(1))
        frames = _frames_from(container, stream, path, start, rate)
        yield Source(frames, rate, origin, has_audio=bool(container.streams.audio))


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
        try:
            container = av.open(content, "r", options=dict(_OPEN_OPTIONS), **_METADATA)
        except (av.FFmpegError, OSError, ValueError) as error:
            if is_truncated(path):
                raise VideoError(f"The file {path} is truncated and cannot be opened: get a complete copy.") from error
            raise VideoError(f"The file {path} is not a video in a supported format: convert it to .mp4.") from error
        with container:
            yield container


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if not hasattr(stream, "width"):  # PyAV has no decoder for it
                raise VideoError(f"The frames of {path} are in an unsupported codec: convert it to .mp4.")
            # Threads that each decode a frame ahead would hold as many frames as there are cores.
            stream.thread_type = "AUTO" if stream.width * stream.height < _LARGE else "SLICE"
            stream.codec_context.options = dict(_DECODER_OPTIONS)
            if stream.width * stream.height > MAX_PIXELS:
                size = f"{stream.width} x {stream.height}"
                raise VideoError(f"The frames of {path} have {size} pixels; at most {MAX_PIXELS} can be read.")
            return stream
    raise VideoError(f"The file {path} has no video stream (only sound or text): choose a video.")


def _frames_from(
    container: InputContainer, stream: VideoStream, path: Path, start: Fraction, rate: Fraction
) -> Iterator[TimedFrame]:
    """Decode from a key frame at or before `start`, or from the beginning if the format cannot seek there."""
    base, first = stream.time_base or Fraction(1), stream.start_time or 0
    frames = _decode(container, stream, rate)
    if start > SEEK_MARGIN and not _stores_decoding_times(container, stream):
        head = None
        try:
            container.seek(first + int((start - SEEK_MARGIN) / base), stream=stream)
            head = next(frames, None)
        except av.FFmpegError:
            pass
        if head is None or head.time > start:
            with open_file(path) as again:  # such formats cannot seek back to the beginning either
                yield from _decode(again, _video_stream(again, path), rate)
            return
        yield head
    yield from frames


def _decode(container: InputContainer, stream: VideoStream, rate: Fraction) -> Iterator[TimedFrame]:
    base, first = stream.time_base or Fraction(1), stream.start_time or 0
    time, offset = -1 / rate, Fraction(0)
    for stamp, frame in _stamped(container, stream):
        before, time = time, time + 1 / rate if stamp is None else (stamp - first) * base + offset
        if time < before - CLOCK_RESET:
            offset += before + 1 / rate - time
            time = before + 1 / rate
        duration = frame.duration * base if frame.duration else 1 / rate
        yield TimedFrame(time, duration, frame, stream.sample_aspect_ratio or Fraction(1))


def _stamped(container: InputContainer, stream: VideoStream) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Frames with their time stamps; decoding times, if only these are stored, go to frames in presentation order."""
    if not _stores_decoding_times(container, stream):
        for frame in container.decode(stream):
            yield frame.pts, frame
        return
    stamps: deque[int | None] = deque()
    for packet in container.demux(stream):
        if packet.size:
            stamps.append(packet.dts)
        for frame in packet.decode():
            yield (stamps.popleft() if stamps else None), frame


def _stores_decoding_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether a file stores decoding times in place of presentation times: AVI with B-frames."""
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def _image_frames(images: list[Path], start: Fraction, rate: Fraction) -> Iterator[TimedFrame]:
    skipped = max(0, int(start * rate) - 1)
    for index, image in enumerate(images[skipped:], skipped):
        try:
            with open_file(image) as container:
                timed = next(_decode(container, _video_stream(container, image), rate))
        except (av.FFmpegError, StopIteration) as error:
            raise VideoError(f"The image {image} is damaged or truncated: get a complete copy.") from error
        yield TimedFrame(index / rate, 1 / rate, timed.frame, timed.pixel_aspect)
