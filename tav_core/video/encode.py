"""Write frames as a video that plays anywhere: H.264 MP4, VP9 WebM, GIF, or numbered PNG files.

RGB becomes YUV 4:2:0 by the BT.709 matrix in limited range, and the file says so, so that colours survive. All is
written under a temporary name in the same folder and renamed at the end: a failure leaves nothing and harms nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from uuid import uuid4

import av
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from ..checks import shown
from .media import MAX_SIDE, Audio, VideoError, as_rate, check_whole, frame_number, is_pattern, local_path, numbered
from .picture import SCALE_FLAGS

_PNG_PATTERN = "frame_%05d.png"
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
_MAX_SAMPLE_RATE = 384_000  # Hz
_MAX_FRAMES = 10**6
_OVERSHOOT = 0.5  # how far beyond [0, 1] a pixel is taken for a decoder's overshoot and clipped
_BT709, _LIMITED_RANGE = 1, 1  # ISO 23091-2 code of matrix, primaries and transfer; AVCOL_RANGE_MPEG


@dataclass(frozen=True)
class _Format:
    """What a container holds; crf is its usual constant rate factor, max_crf the largest there is."""

    video_codec: str
    crf: int
    max_crf: int
    options: dict[str, str]
    audio_codec: str
    even_size: bool


@dataclass(frozen=True, eq=False)
class _Clip:
    """The arguments of write_video, checked."""

    frames: torch.Tensor | np.ndarray
    rate: Fraction
    audio: Audio | None
    crf: int | None
    metadata: dict[str, str]


_FORMATS = {
    # cpu-independent: some of x264's assembly gives other bits for other alignments of the memory it is handed.
    ".mp4": _Format("libx264", 17, 51, {"preset": "medium", "x264-params": "cpu-independent=1"}, "aac", even_size=True),
    ".webm": _Format("libvpx-vp9", 24, 63, {"row-mt": "1", "cpu-used": "3"}, "libopus", even_size=False),
}


def write_video(
    path: str | os.PathLike[str],
    frames: torch.Tensor | np.ndarray,
    fps: float | Fraction,
    *,
    audio: Audio | None = None,
    crf: int | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a clip; the name decides the format.

    NAME.mp4: H.264, yuv420p, index at the front, AAC sound; an odd width or height gets its last column or row twice,
    since such files need even ones. NAME.webm: VP9 and Opus. NAME.gif: one palette of 256 colours for the clip; its
    clock counts hundredths of a second. A name without suffix, or FOLDER/frame_%04d.png: a folder of PNG files. GIF
    and PNG have no sound, and GIF no metadata: they are left out.

    Arguments:
        path: where to; its parent folder is made. An older file is replaced at the end; so is an older folder of PNG
            files, if it holds nothing but such frames.
        frames: (f, h, w, 3), float in [0, 1] (overshoot is clipped) or uint8.
        fps: frames per second, kept exactly as a fraction; floats such as 29.97 mean 30000/1001.
        audio: sound to go with the frames; what is longer than them is cut.
        crf: constant rate factor of H.264 (0 to 51, default 17) or VP9 (0 to 63, default 24); lower is better.
        metadata: texts to keep in the file.

    Returns:
        The path written.

    Raises:
        VideoError: for frames, rates, sound or names that cannot be written, and if the encoder fails.
    """
    target = check_output(path)
    if not isinstance(metadata or {}, Mapping):
        raise VideoError(f"metadata are texts by name, not {shown(metadata)}.")
    clip = _Clip(frames, as_rate(fps), audio, crf, dict(metadata or {}))
    suffix = target.suffix.lower()
    _check(clip, suffix)
    if suffix == ".png":
        _write_folder(target.parent, target.name, clip)
    elif suffix == "" or target.is_dir():
        _write_folder(target, _PNG_PATTERN, clip)
    else:
        _write_file(target, clip)
    return target


def check_output(path: str | os.PathLike[str]) -> Path:
    """Refuse a name that `write_video` could not write, before the work of making the frames.

    Raises:
        VideoError: the name is no local path or names no format.
    """
    target = local_path(path)
    suffix = target.suffix.lower()
    known = suffix in ("", ".gif", *_FORMATS) or (suffix == ".png" and is_pattern(target.name)) or target.is_dir()
    if not known:
        raise VideoError(
            f"{target.name!r} names no format that can be written: use .mp4, .webm or .gif, a folder's name without"
            " suffix, or FOLDER/frame_%04d.png."
        )
    return target


def _check(clip: _Clip, suffix: str) -> None:
    if not isinstance(clip.frames, (torch.Tensor, np.ndarray)):
        raise VideoError(f"frames must be a tensor or an array, not {shown(clip.frames)}.")
    _check_in_memory("frames", clip.frames)
    shape = tuple(clip.frames.shape)
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise VideoError(f"frames must be (frames, height, width, 3) and not empty, not {shape}.")
    check_whole("the number of frames", shape[0], 1, _MAX_FRAMES)
    for name, side in (("height", shape[1]), ("width", shape[2])):
        check_whole(f"the frames' {name}", side, 1, MAX_SIDE)
    kind = str(clip.frames.dtype).removeprefix("torch.")
    if kind not in ("uint8", "float16", "bfloat16", "float32", "float64"):
        raise VideoError(f"frames must be float in [0, 1] or uint8, not {kind}.")
    if kind != "uint8":
        pixels = clip.frames.detach() if isinstance(clip.frames, torch.Tensor) else clip.frames
        low, high = float(pixels.min()), float(pixels.max())
        if not np.isfinite([low, high]).all():
            raise VideoError("frames hold NaN or infinite pixels: look for a failure in the step that made them.")
        if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
            raise VideoError(f"float frames must lie in [0, 1], not {low:g} to {high:g}: rescale them.")
    settings = _FORMATS.get(suffix)
    if clip.crf is not None and settings is not None:
        check_whole(f"crf of {suffix}", clip.crf, 0, settings.max_crf)
    if not all(isinstance(text, str) for texts in clip.metadata.items() for text in texts):
        raise VideoError("metadata are texts by name: encode other values as JSON.")
    if clip.audio is not None:
        _check_audio(clip.audio)


def _check_in_memory(name: str, numbers: torch.Tensor | np.ndarray) -> None:
    if isinstance(numbers, torch.Tensor) and (numbers.is_meta or numbers.layout is not torch.strided):
        raise VideoError(f"{name} must be a plain tensor in memory, not {numbers.layout} on {numbers.device}.")


def _check_audio(audio: Audio) -> None:
    samples = audio.samples
    if not isinstance(samples, torch.Tensor):
        raise VideoError(f"audio samples must be a tensor, not {shown(samples)}.")
    _check_in_memory("audio samples", samples)
    if samples.ndim != 2 or len(samples) not in _LAYOUTS or not samples.is_floating_point():
        raise VideoError(f"audio samples must be float (channels, n), not {samples.dtype} {tuple(samples.shape)}.")
    if not samples.isfinite().all():
        raise VideoError("audio holds NaN or infinite samples: look for a failure in the step that made them.")
    check_whole("the sample rate", audio.sample_rate, 1, _MAX_SAMPLE_RATE)


def _byte_pictures(clip: _Clip) -> Iterator[np.ndarray]:
    """Each frame as contiguous uint8 (h, w, 3)."""
    for frame in clip.frames:
        pixels = frame.detach().cpu() if isinstance(frame, torch.Tensor) else torch.as_tensor(frame)
        if pixels.dtype != torch.uint8:
            pixels = (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)
        yield np.ascontiguousarray(pixels.numpy())


def _write_file(target: Path, clip: _Clip) -> None:
    """Write under a temporary name beside the target, then take its place."""
    suffix = target.suffix.lower()
    temporary = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with av.open(f"file:{temporary}", "w", format=suffix[1:], options=_muxer_options(suffix, clip)) as container:
            container.metadata.update(clip.metadata)
            if suffix == ".gif":
                _encode_gif(container, clip)
            else:
                _encode(container, clip, _FORMATS[suffix])
        os.replace(temporary, target)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{target} could not be written: {error}.") from error
    finally:
        with suppress(OSError):  # it must not hide why the file could not be written
            temporary.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{uuid4().hex}{target.suffix}")


def _muxer_options(suffix: str, clip: _Clip) -> dict[str, str]:
    if suffix != ".mp4":
        return {}
    return {"movflags": "faststart" + ("+use_metadata_tags" if clip.metadata else "")}


def _encode(container: OutputContainer, clip: _Clip, settings: _Format) -> None:
    """H.264 or VP9 with its sound, interleaved."""
    height, width = clip.frames.shape[1:3]
    spare = (height % 2, width % 2) if settings.even_size else (0, 0)
    crf = settings.crf if clip.crf is None else clip.crf
    stream = container.add_stream(settings.video_codec, rate=clip.rate, options={**settings.options, "crf": str(crf)})
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width + spare[1], height + spare[0], "yuv420p"
    context = stream.codec_context
    context.bit_rate = 0  # quality alone decides
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED_RANGE
    sound = _Sound(container, clip, settings.audio_codec) if clip.audio is not None else None
    graph = _graph(stream.width, stream.height, "yuv420p", clip.rate)
    for index, picture in enumerate(_byte_pictures(clip)):
        picture = np.pad(picture, ((0, spare[0]), (0, spare[1]), (0, 0)), mode="edge")
        graph.push(_video_frame(picture, index, clip.rate))
        frame = graph.vpull()
        frame.colorspace, frame.color_range = _BT709, _LIMITED_RANGE
        container.mux(stream.encode(frame))
        if sound is not None:
            sound.encode_until((index + 1) / clip.rate)
    container.mux(stream.encode(None))
    if sound is not None:
        sound.finish()


def _video_frame(picture: np.ndarray, index: int, rate: Fraction) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts, frame.time_base = index, 1 / rate
    return frame


def _graph(width: int, height: int, pixel_format: str, rate: Fraction) -> av.filter.Graph:
    """RGB to YUV by BT.709 in limited range."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate),
        graph.add("scale", f"flags={SCALE_FLAGS}:out_color_matrix=bt709:out_range=tv"),
        graph.add("format", pixel_format),
        graph.add("buffersink"),
    ).configure()
    return graph


class _Sound:
    """The sound track of a file being written; it is cut where the pictures end."""

    def __init__(self, container: OutputContainer, clip: _Clip, codec: str) -> None:
        assert clip.audio is not None
        self.container, self.audio = container, clip.audio
        self.layout = _LAYOUTS[len(clip.audio.samples)]
        rates = av.Codec(codec, "w").audio_rates or [clip.audio.sample_rate]
        rate = clip.audio.sample_rate if clip.audio.sample_rate in rates else 48000
        stream = container.add_stream(codec, rate=rate, layout=self.layout)
        assert isinstance(stream, AudioStream)
        stream.bit_rate = 96_000 * len(clip.audio.samples)
        self.stream = stream
        self.position = 0  # samples encoded so far

    def encode_until(self, seconds: Fraction) -> None:
        end = min(round(seconds * self.audio.sample_rate), self.audio.samples.shape[1])
        if end <= self.position:
            return
        block = self.audio.samples[:, self.position : end].detach().cpu().float().clamp(-1, 1).contiguous()
        frame = av.AudioFrame.from_ndarray(block.numpy(), format="fltp", layout=self.layout)
        frame.sample_rate, frame.pts = self.audio.sample_rate, self.position
        frame.time_base = Fraction(1, self.audio.sample_rate)
        self.container.mux(self.stream.encode(frame))
        self.position = end

    def finish(self) -> None:
        self.container.mux(self.stream.encode(None))


def _encode_gif(container: OutputContainer, clip: _Clip) -> None:
    """One palette from all frames (FFmpeg's palettegen), then each frame in it, ordered dither."""
    height, width = clip.frames.shape[1:3]
    stream = container.add_stream("gif", rate=clip.rate)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / clip.rate)
    split, palette = graph.add("split"), graph.add("palettegen", "reserve_transparent=0")
    use, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=4"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for index, picture in enumerate(_byte_pictures(clip)):
        graph.push(_video_frame(picture, index, clip.rate))
    graph.push(None)
    for index in range(len(clip.frames)):
        frame = graph.vpull()
        frame.pts, frame.time_base = index, 1 / clip.rate
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _write_folder(target: Path, pattern: str, clip: _Clip) -> None:
    """Fill a temporary folder beside the target, then let it take the place of an older one that holds only frames."""
    from PIL import Image, PngImagePlugin

    target = target.absolute()
    _check_replaceable(target, pattern)
    texts = PngImagePlugin.PngInfo()
    for name, text in clip.metadata.items():
        texts.add_itxt(name, text)
    temporary, old = _beside(target), _beside(target)
    try:
        temporary.mkdir(parents=True)
        for index, picture in enumerate(_byte_pictures(clip)):
            Image.fromarray(picture).save(temporary / numbered(pattern, index), pnginfo=texts)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(temporary, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
    except OSError as error:
        raise VideoError(f"{target} could not be written: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(target: Path, pattern: str) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise VideoError(f"{target} is a file, and a folder of frames was asked there: choose another name.")
    strangers = [file.name for file in target.iterdir() if frame_number(pattern, file.name) is None]
    if strangers:
        raise VideoError(
            f"The folder {target} holds other things than {pattern} ({strangers[0]}), and is not replaced:"
            " choose a new folder."
        )
