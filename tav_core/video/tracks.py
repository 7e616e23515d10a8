"""The choice of a file's tracks, those that can be decoded and default ones first; and the decoder of a video track."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from .media import MAX_PIXELS, VideoError

DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
_LARGE = 2**23  # pixels of a picture; 4K has 8.8 million
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders leave the alpha channel out


def video_track(container: InputContainer, path: Path) -> VideoStream:
    """The video track to read, with its decoder's limits set.

    Raises:
        VideoError: if there is none, none can be decoded, or its pictures are too large.
    """
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        raise VideoError(f"The file {path} has no video stream (only sound or text): choose a video.")
    stream = _first_default(video for video in videos if _has_decoder(video))
    if stream is None:
        raise VideoError(f"The frames of {path} are in an unsupported codec: convert it to .mp4.")
    # Threads that each decode a frame ahead would hold as many frames as there are cores.
    stream.thread_type = "AUTO" if stream.width * stream.height < _LARGE else "SLICE"
    stream.codec_context.options = dict(DECODER_OPTIONS)
    if stream.width * stream.height > MAX_PIXELS:
        size = f"{stream.width} x {stream.height}"
        raise VideoError(f"The frames of {path} have {size} pixels; at most {MAX_PIXELS} can be read.")
    return stream


def sound_track(container: InputContainer, path: Path) -> AudioStream | None:
    """The sound track to read, or None. Warns of a better one that cannot be decoded."""
    first = _first_default(container.streams.audio)
    stream = _first_default(sound for sound in container.streams.audio if _has_decoder(sound))
    if first is not None and stream is not first:
        instead = "the clip has no sound" if stream is None else f"track {stream.index} is taken"
        warnings.warn(
            f"Sound track {first.index} of {path} is in an unsupported codec: {instead}. Convert the sound to "
            "AAC to hear it.",
            stacklevel=2,
        )
    return stream


def frames_of(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Decode a video track, with its alpha channel where a WebM file has one."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.options = dict(DECODER_OPTIONS)
    for packet in container.demux(stream):
        yield from decoder.decode(packet if packet.size else None)


def _has_decoder(stream: VideoStream | AudioStream) -> bool:
    return getattr(stream, "codec_context", None) is not None


def _first_default(streams: Iterable[Any]) -> Any:
    """The first stream that its file marks as default, else the first one; None without streams."""
    found = list(streams)
    return next((stream for stream in found if stream.disposition & Disposition.default), found[0] if found else None)
