"""The part of a video that Load Clip takes, by the rules of VideoHelperSuite's Load Video, and a preview of it.

The rate is forced first, then frames are skipped at the beginning, then every n-th one is taken, up to a cap.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.v0_0_2 import io, ui

from ... import tav_core
from .data import read_any_video, read_file
from .progress import raise_if_interrupted

MAX_FRAMES = 256
MULTIPLE = 8  # of pixels, as a VAE needs them


def read_cut(
    source: Path | Any,
    num_frames: int = 16,
    width: int = 512,
    height: int = 512,
    stride: int = 1,
    skip_first_frames: int = 0,
    force_rate: float = 0.0,
    start: float = 0.0,
    fit: str = "crop",
) -> tav_core.VideoClip:
    """The frames of a file, or of the host's VIDEO; as many as there are, where there are fewer than `num_frames`.

    Arguments:
        source: a path, or a VIDEO.
        num_frames, width, height, force_rate: 0 for all up to MAX_FRAMES, the video's own size, its own rate.

    Raises:
        VideoError: the core's own, if the file cannot be read, or has no frame in this part.
    """
    request: dict[str, Any] = dict(num_frames=num_frames or MAX_FRAMES, fewer=True, fit=fit)
    request |= dict(width=width or None, height=height or None, start=start)
    if force_rate:
        rate = Fraction(force_rate).limit_denominator(1001)
        request |= dict(fps=rate / stride, start=start + float(skip_first_frames / rate))
    else:
        request |= dict(stride=stride, skip_frames=skip_first_frames)
    clip = read_file(source, **request) if isinstance(source, Path) else read_any_video(source, **request)
    return _in_multiples(clip)


def show_cut(clip: tav_core.VideoClip) -> ui.PreviewVideo:
    """A video of exactly these frames in the host's temporary folder, for the node to play."""
    name = f"tune-a-video-{secrets.token_hex(8)}.mp4"
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    rate = float(clip.fps)
    tav_core.write_video(folder / name, clip.frames, rate, audio=clip.audio, before_frame=raise_if_interrupted)
    return ui.PreviewVideo([ui.SavedResult(name, "", io.FolderType.temp)])


def described(clip: tav_core.VideoClip) -> str:
    """The cut in words."""
    count, height, width = clip.frames.shape[:3]
    seconds = count / float(clip.fps)
    source = f"of a video of {clip.source_width} x {clip.source_height}"
    return f"{count} frames of {width} x {height}, {seconds:.1f} s at {float(clip.fps):g} fps, {source}"


def _in_multiples(clip: tav_core.VideoClip) -> tav_core.VideoClip:
    """The middle of the frames, at a size that the VAE takes."""
    height, width = (side // MULTIPLE * MULTIPLE for side in clip.frames.shape[1:3])
    top, left = (clip.frames.shape[1] - height) // 2, (clip.frames.shape[2] - width) // 2
    return replace(clip, frames=clip.frames[:, top : top + height, left : left + width].contiguous())
