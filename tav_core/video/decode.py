"""Local video files and image folders as a stream of timed frames, and their sound (PyAV / FFmpeg).

Only the local file that was named is ever opened: Python opens it and FFmpeg gets the open file object, a list of
plain media formats (no playlists or scripts that name other files) and no network or file protocol at all.
Times are exact fractions of a second and count from the first picture of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from .media import MAX_PIXELS, Audio, VideoError, find_images, is_cut_off

_SEEK_MARGIN = Fraction(1)  # seconds decoded ahead of the wanted moment, so that decoders have settled by then
_MAX_SOUND_DRIFT = 0.05  # seconds between the time stamps of sound and its count of samples that are only rounding
_FORMATS = (
    "mov,matroska,avi,gif,apng,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,yuv4mpegpipe,h264,hevc,m4v,obu,webp,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
_MAX_SAMPLES = 2**28  # of sound, in all channels: 46 minutes of stereo at 48 kHz, 1 GiB
_LARGE = 2**23  # pixels of a picture; 4K has 8.8 million
_DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
_OPEN_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "none", **_DECODER_OPTIONS}
# Texts that are not UTF-8 must not keep a video from being read; from PyAV 19 on they never do.
_TEXTS: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame, when it is shown (seconds), for how long, and the width of a pixel over its height."""

    time: Fraction
    duration: Fraction
    frame: av.VideoFrame
    pixel_aspect: Fraction


@dataclass
class Source:
    """An open video: its frames in order of presentation, frames per second, and time 0 on the file's own clock."""

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
    """Open a video file, a folder of images or an image pattern, ready to decode from `start` seconds or a bit before.

    Raises:
        VideoError: for what is missing, empty or not a video.
    """
    images = find_images(path)
    if images:
        yield Source(_image_frames(images, start, image_rate), image_rate, Fraction(0), has_audio=False)
        return
    with _open_file(path) as container:
        stream = _picture_track(container, path)
        rate = stream.guessed_rate or stream.average_rate or Fraction(25)
        origin = (stream.start_time or 0) * (stream.time_base or Fraction(1))
        frames = _frames_from(container, stream, start, rate)
        yield Source(frames, rate, origin, has_audio=bool(container.streams.audio))


@contextmanager
def _open_file(path: Path) -> Iterator[InputContainer]:
    if not path.exists():
        raise VideoError(f"There is no file {path}: check its name.")
    if path.stat().st_size == 0:
        raise VideoError(f"The file {path} is empty (0 bytes): get a complete copy.")
    with path.open("rb") as file:
        try:
            container = av.open(file, "r", options=dict(_OPEN_OPTIONS), **_TEXTS)
        except (av.FFmpegError, OSError, ValueError) as error:
            if is_cut_off(path):
                raise VideoError(f"The file {path} is truncated and cannot be opened: get a complete copy.") from error
            raise VideoError(f"The file {path} is not a video in a format known here: convert it to .mp4.") from error
        with container:
            yield container


def _picture_track(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if not hasattr(stream, "width"):  # PyAV has no decoder for it, whatever its types say
                raise VideoError(f"The pictures of {path} are in a codec that is not known here: convert it to .mp4.")
            # Threads that each decode a frame ahead would hold as many frames as there are cores.
            stream.thread_type = "AUTO" if stream.width * stream.height < _LARGE else "SLICE"
            stream.codec_context.options = dict(_DECODER_OPTIONS)
            if stream.width * stream.height > MAX_PIXELS:
                size = f"{stream.width} x {stream.height}"
                raise VideoError(f"The pictures of {path} have {size} pixels; at most {MAX_PIXELS} can be read.")
            return stream
    raise VideoError(f"The file {path} has no moving pictures (sound or text only): choose a video.")


def _frames_from(
    container: InputContainer, stream: VideoStream, start: Fraction, rate: Fraction
) -> Iterator[TimedFrame]:
    """Decode from a key frame at or before `start`; from the beginning where the format cannot seek there."""
    base, first = stream.time_base or Fraction(1), stream.start_time or 0
    frames = _decode(container, stream, rate)
    if start > _SEEK_MARGIN:
        head = None
        try:
            container.seek(first + int((start - _SEEK_MARGIN) / base), stream=stream)
            head = next(frames, None)
        except av.FFmpegError:
            pass
        if head is None or head.time > start:
            container.seek(first, stream=stream)
            frames = _decode(container, stream, rate)
        else:
            yield head
    yield from frames


def _decode(container: InputContainer, stream: VideoStream, rate: Fraction) -> Iterator[TimedFrame]:
    base, first = stream.time_base or Fraction(1), stream.start_time or 0
    time = -1 / rate
    for frame in container.decode(stream):
        time = (frame.pts - first) * base if frame.pts is not None else time + 1 / rate
        duration = frame.duration * base if frame.duration else 1 / rate
        yield TimedFrame(time, duration, frame, stream.sample_aspect_ratio or Fraction(1))


def _image_frames(images: list[Path], start: Fraction, rate: Fraction) -> Iterator[TimedFrame]:
    skipped = max(0, int(start * rate) - 1)
    for index, image in enumerate(images[skipped:], skipped):
        try:
            with _open_file(image) as container:
                timed = next(_decode(container, _picture_track(container, image), rate))
        except (av.FFmpegError, StopIteration) as error:
            raise VideoError(f"The image {image} is damaged or truncated: get a complete copy.") from error
        yield TimedFrame(index / rate, 1 / rate, timed.frame, timed.pixel_aspect)


def read_audio(path: Path, begin: Fraction, seconds: Fraction) -> Audio | None:
    """The first sound track from `begin` (on the file's clock) for so many seconds, with silence where it has none.

    Returns:
        samples (channels, round(seconds * sample_rate)), or None if the file has no sound within that span.
    """
    samples, rate, heard = np.zeros((0, 0), np.float32), 0, False
    try:
        with _open_file(path) as container:
            for position, rate, block in _sound_blocks(container, begin):
                if not samples.size:
                    samples = _silence(path, len(block), max(1, round(seconds * rate)))
                heard |= paste(samples, block, position)
                if position + block.shape[1] >= samples.shape[1]:
                    break
    except av.FFmpegError as error:
        if not is_cut_off(path):  # whoever has the frames that were asked for does without the end of their sound
            raise VideoError(f"The sound of {path} cannot be decoded ({error}): remove or convert it.") from error
    return Audio(torch.from_numpy(samples), rate) if heard else None


def _silence(path: Path, channels: int, length: int) -> np.ndarray:
    """Samples (channels, length) to lay sound in; time stamps can put a few frames hours apart."""
    if channels * length > _MAX_SAMPLES:
        raise VideoError(
            f"The sound of {path} along the frames asked for has {channels} x {length} samples; at most {_MAX_SAMPLES} "
            "can be read: ask for fewer frames, or remove the sound."
        )
    return np.zeros((channels, length), np.float32)


def _sound_blocks(container: InputContainer, begin: Fraction) -> Iterator[tuple[int, int, np.ndarray]]:
    """Sound from somewhat before `begin`: place of the first sample counted from `begin`, rate, (channels, n)."""
    if begin > _SEEK_MARGIN:
        container.seek(int((begin - _SEEK_MARGIN) * av.time_base))
    resampler = av.AudioResampler(format="fltp")
    position = None
    for decoded in container.decode(container.streams.audio[0]):
        for frame in resampler.resample(decoded):
            block, rate = frame.to_ndarray(), frame.sample_rate
            stamp = None
            if frame.pts is not None and frame.time_base is not None:
                stamp = round((frame.pts * frame.time_base - begin) * rate)
            if position is None or (stamp is not None and abs(stamp - position) > _MAX_SOUND_DRIFT * rate):
                position = stamp or 0
            yield position, rate, block
            position += block.shape[1]


def paste(samples: np.ndarray, block: np.ndarray, position: int) -> bool:
    """Copy the part of a block that falls within the samples; whether there is one."""
    begin, end = max(position, 0), min(position + block.shape[1], samples.shape[1])
    if begin >= end:
        return False
    samples[:, begin:end] = block[:, begin - position : end - position]
    return True
