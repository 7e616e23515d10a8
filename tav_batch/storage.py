"""Files on this machine or wherever fsspec reaches, such as s3://bucket/folder."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tav_core.atomic import make_folder, replacing, write_bytes

MAX_DOWNLOAD = 20 * 10**9  # bytes of one file
CHUNK = 2**20
AT_ONCE = 256  # small files that are read together


def is_remote(path: str | Path) -> bool:
    """Whether a path is a URL of another file system, such as s3://bucket/file."""
    return "://" in str(path)


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there.

    Raises:
        ValueError: if nothing that is installed reaches it.
    """
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        name = url.partition("://")[0]
        raise ValueError(f"{name}:// cannot be reached ({error}): pip install 'tune-a-video[batch]'.") from error


def open_binary(path: str) -> IO[bytes]:
    """A file here or elsewhere, to read.

    Raises:
        OSError: if there is none.
    """
    if not is_remote(path):
        return open(path, "rb")
    system, inside = file_system(path)
    return io.BufferedReader(system.open(inside, "rb"))


def file_mark(path: str | Path) -> str:
    """What changes when a file does: its size and time, or what its storage has in their place.

    The mark of a folder here, such as a model or frames, is of the files in it and in the folders directly below.

    Raises:
        OSError: if there is no such file or folder.
        ValueError: for a folder elsewhere, which is not read.
    """
    if not is_remote(path):
        local = Path(path)
        if not local.is_dir():
            return _mark_of(local)
        found = sorted(file for pattern in ("*", "*/*") for file in local.glob(pattern) if file.is_file())
        marks = [f"{file.relative_to(local)} {_mark_of(file)}" for file in found]
        return hashlib.sha256("\n".join(marks).encode(errors="surrogateescape")).hexdigest()
    system, inside = file_system(str(path))
    system.invalidate_cache()
    info = system.info(inside)
    if info.get("type") == "directory":
        raise ValueError(f"{path} is a folder, which is read from local disks alone: give a video file.")
    return f"{info.get('size')} {info.get('ETag') or info.get('LastModified') or info.get('mtime')}"


def _mark_of(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def download(url: str, target: Path, max_bytes: int = MAX_DOWNLOAD) -> None:
    """Copy a file from elsewhere to a new file here.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is larger than `max_bytes`.
    """
    system, inside = file_system(url)
    taken = 0
    with system.open(inside, "rb") as source, target.open("wb") as file:
        while chunk := source.read(CHUNK):
            taken += len(chunk)
            if taken > max_bytes:
                raise ValueError(f"{url} is larger than {max_bytes / 1e9:g} GB: give a shorter clip.")
            file.write(chunk)


class Folder:
    """The output of a batch, here or elsewhere. A file that is written is whole or not there at all.

    Arguments:
        place: a path or a URL.
    """

    def __init__(self, place: str):
        self.place = place.rstrip("/")
        self.remote = is_remote(place)
        self._system: Any = None
        self._root = str(Path(place).absolute())
        if self.remote:
            self._system, self._root = file_system(self.place)

    def path(self, name: str) -> str:
        """The full path or URL of a file."""
        return f"{self.place if self.remote else self._root}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Write a file; folders are made.

        Raises:
            OSError: if it cannot be written.
        """
        if self.remote:
            self._system.pipe_file(f"{self._root}/{name}", data)
        else:
            write_bytes(Path(self._root, name), data)

    def put(self, name: str, source: Path) -> None:
        """Copy a file from here; to a remote folder the files of a folder too.

        Raises:
            OSError: if it cannot be written.
        """
        if self.remote:
            self._system.put(str(source), f"{self._root}/{name}", recursive=source.is_dir())
            return
        target = Path(self._root, name)
        make_folder(target.parent)
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        if self.remote:
            return bool(self._system.exists(f"{self._root}/{name}"))
        return Path(self._root, name).exists()

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        try:
            return self._system.cat_file(f"{self._root}/{name}") if self.remote else Path(self._root, name).read_bytes()
        except FileNotFoundError:
            return None

    def read_json(self, names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Small JSON files by name; None where there is none or it is none."""
        names = list(names)
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            if self.remote:
                self._system.invalidate_cache()
                paths = [f"{self._root}/{name}" for name in some]
                found = self._system.cat(paths, on_error="omit") if len(paths) > 1 else {paths[0]: self.read(some[0])}
                contents = [found.get(path) for path in paths]
            else:
                contents = [self.read(name) for name in some]
            yield from ((name, _json_object(content)) for name, content in zip(some, contents, strict=True))


def _json_object(content: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(content) if content else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
