"""A folder of numbered PNG files."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from PIL import Image, PngImagePlugin

from ..atomic import flush, replace, temporary_beside
from .media import VideoError, frame_number, numbered, rename_held
from .output import Clip

PATTERN = "frame_%05d.png"


def write_folder(target: Path, pattern: str, clip: Clip) -> None:
    """Write a temporary folder beside the target, which then replaces an older folder that holds nothing but frames."""
    target = target.absolute()
    _raise_unless_replaceable(target, pattern)
    texts = PngImagePlugin.PngInfo()
    for name, text in clip.metadata.items():
        texts.add_itxt(name, text)
    temporary, old = temporary_beside(target), temporary_beside(target)
    try:
        temporary.mkdir(parents=True)
        for index, picture in enumerate(clip.pictures()):
            file = temporary / numbered(pattern, index)
            Image.fromarray(picture).save(file, pnginfo=texts)
            flush(file)
        with suppress(OSError):  # Windows and some network drives flush no folder
            flush(temporary)
        try:
            _swap(target, temporary, old)
        except PermissionError as error:
            raise rename_held(temporary, target, error) from error
    except OSError as error:
        raise VideoError(f"{target} could not be written: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _swap(target: Path, new: Path, old: Path) -> None:
    """Rename `target` to `old` and `new` to `target`. If that fails, `target` is as before."""
    if target.exists():
        replace(target, old)
    try:
        replace(new, target)
    except OSError:
        if old.exists():
            replace(old, target)
        raise


def _raise_unless_replaceable(target: Path, pattern: str) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise VideoError(f"{target} is a file, not a folder of frames: choose another name.")
    others = [file.name for file in target.iterdir() if frame_number(pattern, file.name) is None]
    if others:
        raise VideoError(
            f"The folder {target} holds other files than {pattern} ({others[0]}) and is not replaced:"
            " choose a new folder."
        )
