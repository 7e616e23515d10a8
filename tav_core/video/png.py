"""A folder of numbered PNG files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from PIL import Image, PngImagePlugin

from ..atomic import replace
from .media import VideoError, beside, frame_number, kept_beside, numbered
from .output import Clip

PATTERN = "frame_%05d.png"


def write_folder(target: Path, pattern: str, clip: Clip) -> None:
    """Fill a temporary folder beside the target, then let it take the place of an older one that holds only frames."""
    target = target.absolute()
    _check_replaceable(target, pattern)
    texts = PngImagePlugin.PngInfo()
    for name, text in clip.metadata.items():
        texts.add_itxt(name, text)
    temporary, old = beside(target), beside(target)
    try:
        temporary.mkdir(parents=True)
        for index, picture in enumerate(clip.pictures()):
            Image.fromarray(picture).save(temporary / numbered(pattern, index), pnginfo=texts)
        try:
            _change(target, temporary, old)
        except PermissionError as error:
            raise kept_beside(temporary, target, error) from error
    except OSError as error:
        raise VideoError(f"{target} could not be written: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _change(target: Path, new: Path, old: Path) -> None:
    """Put `target` aside as `old`, and `new` in its place, or leave it where it is."""
    if target.exists():
        replace(target, old)
    try:
        replace(new, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise


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
