"""A folder of entries with a size limit, shared by processes; the least recently used entries are removed first.

An entry is one file KIND-KEY.safetensors. All reads and writes hold the folder's lock, which the system releases when a
process dies. So a temporary file that is there when the lock is taken was left behind by a process that was killed.
Files with other names are never touched.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike, utime
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryFile

from filelock import FileLock, Timeout
from torch import Tensor

from ..atomic import WINDOWS, remove
from ..checks import check_integer, check_path
from .files import raise_if_damaged, read_file, read_metadata, write_file
from .tuned import FORMAT as TUNED_FORMAT

FORMATS = {
    "tuned": TUNED_FORMAT,
    "run": "tune-a-video-run-state",
    "inversion": "tune-a-video-inversion",
    "reconstruction": "tune-a-video-reconstruction",
    "branch": "tune-a-video-source-branch",
}
ENTRY = re.compile(rf"({'|'.join(FORMATS)})-([0-9a-f]{{32}})\.safetensors")
LEFT_BEHIND = re.compile(rf"\.{ENTRY.pattern}\.[0-9a-f]{{8}}\.tmp")
LARGEST_LIMIT = 2**63 - 1  # bytes, of a file system
LOCK_SECONDS = 600
USE_STEP = 2_000_000_000  # nanoseconds: the coarsest resolution of a file system's times, FAT's


@dataclass(frozen=True)
class StoreEntry:
    """A file of a store.

    Attributes:
        kind: "tuned" (finished weights), "run" (an unfinished tuning), "inversion", "reconstruction" (the
            reconstruction SNR of the inversion with this key), or "branch" (the steps of a source branch).
        key: the digest of everything that determines the content, 32 hexadecimal digits.
        path: of the file.
        num_bytes: its size.
        used: when it was last written or read, in nanoseconds since 1970; only its order has a meaning.
    """

    kind: str
    key: str
    path: Path
    num_bytes: int
    used: int


class EntryFolder:
    """Entries by kind and key.

    Arguments:
        folder: of the entries; made at the first write.
        max_bytes: the size limit. Beyond it the least recently used entries are removed, but never those with the key
            just written.
        remedy: added to the error if the folder cannot be written to.
    """

    def __init__(self, folder: str | PathLike[str], *, max_bytes: int, remedy: str = ""):
        self.folder = check_path(folder)
        check_integer("max_bytes", max_bytes, 0, LARGEST_LIMIT)
        self.max_bytes = max_bytes
        self.remedy = remedy

    def entries(self) -> list[StoreEntry]:
        """All entries, the least recently used first. Their content is not read."""
        entries = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if (match := ENTRY.fullmatch(path.name)) is not None:
                with suppress(FileNotFoundError):  # removed by another process meanwhile
                    status = path.stat()
                    if S_ISREG(status.st_mode):
                        entries.append(StoreEntry(match[1], match[2], path, status.st_size, status.st_mtime_ns))
        return sorted(entries, key=lambda entry: (entry.used, entry.path.name))

    def describe(self, entry: StoreEntry) -> str:
        """One line about an entry, or the reason why its file cannot be read."""
        try:
            return read_metadata(entry.path, FORMATS[entry.kind]).get("about", "")
        except (OSError, ValueError) as error:
            return str(error)

    def verify(self) -> list[str]:
        """Read every entry and compare it with its checksum and its name.

        Returns:
            One sentence for each bad entry.
        """
        faults = []
        with self._locked():
            for entry in self.entries():
                try:
                    self._read(entry.kind, entry.key)
                except ValueError as error:
                    faults.append(str(error))
        return faults

    def prune(self, max_bytes: int | None = None) -> list[str]:
        """Remove the least recently used entries, and the temporary files of processes that were killed.

        Arguments:
            max_bytes: the size to which the store is reduced; None for its limit.

        Returns:
            The names of the entries that were removed.
        """
        limit = self.max_bytes if max_bytes is None else max_bytes
        check_integer("max_bytes", limit, 0, LARGEST_LIMIT)
        with self._locked():
            return self._prune(limit)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock, against other processes and threads. Add the remedy to errors of the disk."""
        try:
            with self._held():
                yield
        except OSError as error:
            if not self.remedy:
                raise
            raise OSError(f"{error} {self.remedy}") from error

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the lock, and remove the temporary files of processes that were killed."""
        lock = FileLock(self.folder / ".lock", timeout=LOCK_SECONDS)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if WINDOWS:  # where a held lock and a folder without write access give the same error
                TemporaryFile(dir=self.folder).close()
            lock.acquire()
        except Timeout as error:
            message = (
                f"Another process has locked the store {self.folder} for {LOCK_SECONDS} s. End it and start again."
            )
            raise TimeoutError(message) from error
        except OSError as error:
            raise OSError(
                f"The store {self.folder} cannot be written to ({error}). Choose a folder in which files can be made."
            ) from error
        try:
            for path in self.folder.iterdir():
                if LEFT_BEHIND.fullmatch(path.name) is not None:
                    remove(path)
            yield
        finally:
            lock.release()

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / f"{kind}-{key}.safetensors"

    def _read(self, kind: str, key: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        path = self._path(kind, key)
        tensors, metadata = read_file(path, FORMATS[kind])
        raise_if_damaged(path, tensors, metadata)
        if metadata.get("key") != key:
            raise ValueError(f"{path} holds the entry {metadata.get('key')}: the file was renamed. Delete it.")
        return tensors, metadata

    def _get(self, kind: str, key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Read an entry and mark it as used; None if there is none. Called with the lock held.

        Raises:
            ValueError: if the file is damaged or holds another entry.
        """
        path = self._path(kind, key)
        if not path.is_file():
            return None
        found = self._read(kind, key)
        self._mark_used(path)
        return found

    def _put(self, kind: str, key: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write an entry, then remove others beyond the limit. Called with the lock held.

        Raises:
            OSError: if it cannot be written; nothing was removed then, and an old entry of this key is whole.
        """
        path = self._path(kind, key)
        write_file(path, tensors, {**metadata, "format": FORMATS[kind], "key": key})
        self._mark_used(path)
        self._prune(self.max_bytes, spare=key)

    def _mark_used(self, path: Path) -> None:
        """Set the time of a file later than all others, even if the clock was set back."""
        others = [entry.used for entry in self.entries() if entry.path != path]
        used = max([time.time_ns(), *(other + USE_STEP for other in others)])
        with suppress(OSError):  # some network drives do not allow it; the order suffers, not the content
            utime(path, ns=(used, used))

    def _prune(self, max_bytes: int, spare: str = "") -> list[str]:
        entries = self.entries()
        total, removed = sum(entry.num_bytes for entry in entries), []
        for entry in entries:
            if total <= max_bytes:
                break
            if entry.key != spare and remove(entry.path):
                total -= entry.num_bytes
                removed.append(entry.path.name)
        return removed
