"""The streams of a video file: frames as H.264, VP9, FFV1, ProRes or GIF, and their sound.

RGB is converted to YUV by the BT.709 matrix in limited range, and the file is tagged so that players invert it. FFV1
keeps RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import ceil

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from .channels import mixed
from .colour import FULL_RANGE, LIMITED_RANGE
from .media import LAYOUTS
from .output import Clip
from .picture import SCALE_FLAGS

_GIF_RATE = 50  # frames per second; browsers show shorter delays as a tenth of a second
_BT709, _RGB = 1, 0  # ISO 23091-2 codes: of matrix, primaries and transfer; of the matrix of RGB


@dataclass(frozen=True)
class Format:
    """The codecs and options of a container; crf is the default constant rate factor, max_crf the largest."""

    video_codec: str
    crf: int
    max_crf: int
    options: dict[str, str]
    audio_codec: str
    even_size: bool
    layouts: dict[int, str]
    pixel_format: str = "yuv420p"

    @property
    def is_rgb(self) -> bool:
        return not self.pixel_format.startswith("yuv")

    @property
    def is_deep(self) -> bool:
        return "10" in self.pixel_format


FORMATS = {
    # cpu-independent: some of x264's assembly gives other bits for other alignments of memory.
    ".mp4": Format("libx264", 17, 51, {"preset": "medium", "x264-params": "cpu-independent=1"}, "aac", True, LAYOUTS),
    ".webm": Format("libvpx-vp9", 24, 63, {"row-mt": "1", "cpu-used": "3"}, "libopus", False, LAYOUTS | {4: "quad"}),
    ".mkv": Format("ffv1", 0, 0, {"level": "3", "g": "1", "slicecrc": "1"}, "pcm_s24le", False, LAYOUTS, "bgr0"),
    ".mov": Format("prores_ks", 0, 0, {"profile": "hq", "vendor": "apl0"}, "pcm_s24le", True, LAYOUTS, "yuv422p10le"),
}


def encode_film(container: OutputContainer, clip: Clip, settings: Format) -> None:
    """Encode a film with its sound, interleaved."""
    height, width = clip.frames.shape[1:3]
    spare = (height % 2, width % 2) if settings.even_size else (0, 0)
    stream = _add_video(container, clip, settings, width + spare[1], height + spare[0])
    tags = stream.codec_context.colorspace, stream.codec_context.color_range
    sound = _Sound(container, clip, settings) if clip.audio is not None else None
    graph = _film_graph(stream.width, stream.height, clip.rate, settings)
    for index, picture in enumerate(clip.pictures(np.uint16 if settings.is_deep else np.uint8)):
        picture = np.pad(picture, ((0, spare[0]), (0, spare[1]), (0, 0)), mode="edge")
        graph.push(_video_frame(picture, index, clip.rate))
        frame = graph.vpull()
        frame.colorspace, frame.color_range = tags
        container.mux(stream.encode(frame))
        if sound is not None:
            sound.encode_until((index + 1) / clip.rate)
    container.mux(stream.encode(None))
    if sound is not None:
        sound.finish()


def _add_video(container: OutputContainer, clip: Clip, settings: Format, width: int, height: int) -> VideoStream:
    options = dict(settings.options)
    if settings.max_crf:
        options["crf"] = str(settings.crf if clip.crf is None else clip.crf)
    stream = container.add_stream(settings.video_codec, rate=clip.rate, options=options)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, settings.pixel_format
    context = stream.codec_context
    context.bit_rate = 0  # constant quality
    context.colorspace = _RGB if settings.is_rgb else _BT709
    context.color_primaries = context.color_trc = _BT709
    context.color_range = FULL_RANGE if settings.is_rgb else LIMITED_RANGE
    return stream


def _video_frame(picture: np.ndarray, index: int, rate: Fraction) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if picture.dtype == np.uint8 else "rgb48le")
    frame.pts, frame.time_base = index, 1 / rate
    return frame


def _film_graph(width: int, height: int, rate: Fraction, settings: Format) -> av.filter.Graph:
    """A graph from RGB to the format's pixels, YUV by BT.709 in limited range."""
    given = av.VideoFormat("rgb48le" if settings.is_deep else "rgb24")
    scale = f"flags={SCALE_FLAGS}" + ("" if settings.is_rgb else ":out_color_matrix=bt709:out_range=tv")
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, format=given, time_base=1 / rate),
        graph.add("scale", scale),
        graph.add("format", settings.pixel_format),
        graph.add("buffersink"),
    ).configure()
    return graph


class _Sound:
    """The sound track of a file while it is written; cut where the frames end."""

    def __init__(self, container: OutputContainer, clip: Clip, settings: Format) -> None:
        assert clip.audio is not None
        self.container, self.audio = container, mixed(clip.audio)
        self.layout, codec = settings.layouts[len(self.audio.samples)], settings.audio_codec
        rates = av.Codec(codec, "w").audio_rates or [self.audio.sample_rate]
        rate = self.audio.sample_rate if self.audio.sample_rate in rates else 48000
        stream = container.add_stream(codec, rate=rate, layout=self.layout)
        assert isinstance(stream, AudioStream)
        if not codec.startswith("pcm"):
            stream.bit_rate = 96_000 * len(self.audio.samples)
        self.stream = stream
        self.position = 0  # samples encoded so far

    def encode_until(self, seconds: Fraction) -> None:
        end = min(round(seconds * self.audio.sample_rate), self.audio.samples.shape[1])
        if end <= self.position:
            return
        block = self.audio.samples[:, self.position : end].clamp(-1, 1)
        interleaved = block.T.reshape(1, -1).contiguous().numpy()  # PyAV cannot write eight planar channels
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=self.layout)
        frame.sample_rate, frame.pts = self.audio.sample_rate, self.position
        frame.time_base = Fraction(1, self.audio.sample_rate)
        self.container.mux(self.stream.encode(frame))
        self.position = end

    def finish(self) -> None:
        self.container.mux(self.stream.encode(None))


def encode_gif(container: OutputContainer, clip: Clip) -> None:
    """Encode a GIF with one palette of all frames (FFmpeg's palettegen) and ordered dither.

    Above the highest frame rate that players show, only every second frame is written, or every third.
    """
    height, width = clip.frames.shape[1:3]
    stride = ceil(clip.rate / _GIF_RATE)
    rate = clip.rate / stride
    stream = container.add_stream("gif", rate=rate)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate)
    split, palette = graph.add("split"), graph.add("palettegen", "reserve_transparent=0")
    use, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=4"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for index, picture in enumerate(islice(clip.pictures(), 0, None, stride)):
        graph.push(_video_frame(picture, index, rate))
    graph.push(None)
    for index in range(ceil(len(clip.frames) / stride)):
        frame = graph.vpull()
        frame.pts, frame.time_base = index, 1 / rate
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
