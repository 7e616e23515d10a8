"""Files take the place of older ones, or go.

On Windows that is refused while another program has the older one open: a player, an antivirus, a folder that is being
synchronised. Most of them let go within seconds.
"""

import os
import time
from itertools import count
from pathlib import Path

WINDOWS = os.name == "nt"  # where files that are open can neither be replaced nor removed
PATIENCE, PAUSE = 3.0, 0.1  # seconds


def replace(finished: Path, target: Path) -> None:
    """As os.replace, tried for some seconds where another program may hold the target.

    Raises:
        OSError: it cannot take its place.
    """
    began = time.monotonic()
    while True:
        try:
            os.replace(finished, target)
            return
        except PermissionError:
            if not WINDOWS or time.monotonic() - began > PATIENCE:
                raise
            time.sleep(PAUSE)


def keep_beside(finished: Path, target: Path) -> Path:
    """Give what cannot take its place a free name beside it: NAME-1.mp4, NAME-2.mp4, ...

    Returns:
        That name.
    """
    free = (target.with_name(f"{target.stem}-{number}{target.suffix}") for number in count(1))
    kept = next(path for path in free if not path.exists())
    os.replace(finished, kept)
    return kept


def remove(path: Path) -> bool:
    """Remove a file if it is there. False if it stays, as one does on Windows that another program reads."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if not WINDOWS:
            raise
        return False
    return True


def flush(path: Path) -> None:
    """Have the disk write a file, or the names in a folder: after a power cut the old file is there, or the new one."""
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is complete or not there at all; folders are made.

    Raises:
        OSError: it cannot be written; an old file of this name is whole then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        replace(temporary, path)
    finally:
        remove(temporary)
