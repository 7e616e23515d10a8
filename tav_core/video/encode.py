"""Write frames as a video that plays anywhere, H.264 MP4, VP9 WebM, GIF; or for an editor, FFV1, ProRes or PNG files.

Files are written under a temporary name in the same folder and renamed at the end: after a failure the older file is
whole and no part of the new one is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from ..atomic import flush, replace, temporary_beside
from ..checks import shown
from . import png
from .media import Audio, VideoError, as_rate, check_integer, check_name_lengths, is_pattern, local_path, rename_held
from .output import Clip
from .streams import FORMATS, encode_film, encode_gif


def write_video(
    path: str | os.PathLike[str],
    frames: torch.Tensor | np.ndarray,
    fps: float | Fraction,
    *,
    audio: Audio | None = None,
    crf: int | None = None,
    metadata: dict[str, str] | None = None,
    before_frame: Callable[[], object] | None = None,
) -> Path:
    """Write a clip; the name decides the format.

    NAME.mp4: H.264, yuv420p, index at the front, AAC sound; an odd width or height gets its last column or row twice,
    since such files need even ones. NAME.webm: VP9 and Opus. NAME.mkv: FFV1, lossless RGB, PCM sound. NAME.mov: ProRes
    422 HQ, 10 bits, PCM sound, even sizes as well. Colours are tagged as BT.709. NAME.gif: one palette of 256 colours
    for the clip; its clock counts hundredths of a second. A name without suffix, or FOLDER/frame_%04d.png: a folder of
    PNG files. GIF and PNG have no sound, and GIF no metadata: they are left out.

    Arguments:
        path: of the file or folder; its parent folder is made. An older file is replaced at the end; so is an older
            folder of PNG files, if it holds nothing but such frames.
        frames: (f, h, w, 3), float in [0, 1] (overshoot is clipped) or uint8.
        fps: frames per second, stored exactly as a fraction; floats such as 29.97 mean 30000/1001.
        audio: sound of the frames; cut where the frames end.
        crf: constant rate factor of H.264 (0 to 51, default 17) or VP9 (0 to 63, default 24); lower is better. Other
            formats ignore it.
        metadata: strings by name to store in the file.
        before_frame: called before each frame; an exception of it ends the writing, and no part of the file is left.

    Returns:
        The path written.

    Raises:
        VideoError: for frames, rates, sound or names that cannot be written, and if the encoder fails. If another
            program has the older file open, the new one is saved beside it, under the name in the error.
    """
    target = _checked_target(path)
    if not isinstance(metadata or {}, Mapping):
        raise VideoError(f"metadata must be strings by name, not {shown(metadata)}.")
    clip = Clip(frames, as_rate(fps), audio, crf, dict(metadata or {}), before_frame)
    suffix = target.suffix.lower()
    if crf is not None and suffix in FORMATS and FORMATS[suffix].max_crf:
        check_integer(f"crf of {suffix}", crf, 0, FORMATS[suffix].max_crf)
    if suffix == ".png":
        png.write_folder(target.parent, target.name, clip)
    elif suffix == "" or target.is_dir():
        png.write_folder(target, png.PATTERN, clip)
    else:
        _write_file(target, clip)
    return target


def check_output(path: str | os.PathLike[str]) -> Path:
    """Raise before the frames are computed if `write_video` could not write under a name.

    Returns:
        The path.

    Raises:
        VideoError: if the name is no local path or has no known format, or if the file cannot be opened for writing,
            for example because another program has it open.
    """
    target = _checked_target(path)
    try:
        if target.suffix.lower() in (".gif", *FORMATS) and target.parent.is_dir() and not target.is_dir():
            _try_to_open(target)
    except OSError as error:
        remedy = "close the program that has it open, or choose another name"
        raise VideoError(f"{target} cannot be written ({error}): {remedy}.") from error
    return target


def _checked_target(path: str | os.PathLike[str]) -> Path:
    target = local_path(path)
    check_name_lengths(target)
    suffix = target.suffix.lower()
    known = suffix in ("", ".gif", *FORMATS) or (suffix == ".png" and is_pattern(target.name)) or target.is_dir()
    if not known:
        raise VideoError(
            f"{target.name!r} has no format that can be written: use .mp4, .webm, .gif, .mkv (FFV1) or .mov (ProRes),"
            " a folder's name without suffix, or FOLDER/frame_%04d.png."
        )
    return target


def _try_to_open(target: Path) -> None:
    if target.exists():
        target.open("r+b").close()
    elif not target.is_symlink():  # a dangling link is replaced itself
        target.open("xb").close()
        target.unlink()


def _write_file(target: Path, clip: Clip) -> None:
    """Write under a temporary name beside the target, then replace the target."""
    suffix = target.suffix.lower()
    movflags = "faststart" + ("+use_metadata_tags" if clip.metadata else "")
    options = {"movflags": movflags} if suffix in (".mp4", ".mov") else {}
    container_name = {".mkv": "matroska"}.get(suffix, suffix[1:])
    temporary = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with av.open(f"file:{temporary}", "w", format=container_name, options=options) as container:
            container.metadata.update(clip.metadata)
            if suffix == ".gif":
                encode_gif(container, clip)
            else:
                encode_film(container, clip, FORMATS[suffix])
        flush(temporary)
        try:
            replace(temporary, target)
        except PermissionError as error:
            raise rename_held(temporary, target, error) from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{target} could not be written: {error}.") from error
    finally:
        with suppress(OSError):  # it must not hide why the file could not be written
            temporary.unlink(missing_ok=True)
