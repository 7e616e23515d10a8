"""Replace and remove files: after a crash or a power cut there is the old file or the new one, never half of one.

A file is written under a temporary name in the same folder, flushed to the disk and renamed. Windows refuses to rename
over or to remove a file that another program has open, such as a player, an antivirus or a synchronised folder. Most
programs close the file within seconds, so both are retried or reported.
"""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WINDOWS = os.name == "nt"  # where open files can neither be replaced nor removed
PATIENCE, PAUSE = 3.0, 0.1  # seconds


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, with its line ends as they are. See `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that is complete or not there at all. Missing folders are made.

    Raises:
        OSError: if it cannot be written; an old file of this name is whole then.
    """
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing.

    Raises:
        OSError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"The folder {str(folder)[:300]} cannot be made ({error.strerror}): choose another.") from error


@contextmanager
def replacing(target: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Write a file in a `with` block under a temporary name; it replaces the target when the block ends without error.

    Arguments:
        target: the file to write, in a folder that exists.
        temporary: a path in the same folder; None for a random one.

    Yields:
        The temporary path.

    Raises:
        OSError: if the target cannot be replaced; an old file of this name is whole then.
    """
    temporary = temporary or temporary_beside(target)
    try:
        yield temporary
        flush(temporary)
        replace(temporary, target)
    finally:
        with suppress(OSError):  # it must not hide why the file could not be written
            temporary.unlink(missing_ok=True)


def temporary_beside(target: Path) -> Path:
    """A hidden temporary path in the folder of `target`; its length does not depend on the target's name."""
    return target.with_name(f".{secrets.token_hex(8)}.tmp")


def replace(finished: Path, target: Path) -> None:
    """Rename a file or folder that is flushed, and flush the names of the folder that it lies in.

    On Windows, where another program may have the target open, it is tried again for some seconds.

    Raises:
        OSError: if the target cannot be replaced.
    """
    began = time.monotonic()
    while True:
        try:
            os.replace(finished, target)
            break
        except PermissionError:
            if not WINDOWS or time.monotonic() - began > PATIENCE:
                raise
            time.sleep(PAUSE)
    with suppress(OSError):  # Windows and some network drives flush no folder; the file is in its place
        flush(target.parent)


def remove(path: Path) -> bool:
    """Remove a file if it is there. Returns False if it stays because another program has it open on Windows."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if not WINDOWS:
            raise
        return False
    return True


def flush(path: Path) -> None:
    """Write a file's content, or a folder's list of names, from the system's cache to the disk."""
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)
