"""A store of tunings and inversions elsewhere: entries are fetched when they are needed and sent when they are made.

An entry is addressed by everything that determines it, so that two workers which make the same one write the same.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from tav_core.store import Store

from .storage import download, file_system, is_remote


def open_store(place: str, max_bytes: int | None = None) -> Store:
    """The store at a path or a URL. Arguments: max_bytes, its size limit, of a remote one here; None for its own."""
    options: dict[str, Any] = {} if max_bytes is None else {"max_bytes": max_bytes}
    return RemoteStore(place, **options) if is_remote(place) else Store(place, **options)


class RemoteStore(Store):
    """A store at a URL, with the entries that were used in a folder here.

    Arguments:
        url: of the entries.
        options: as `Store` takes them.
    """

    def __init__(self, url: str, **options: Any):
        self._scratch = tempfile.TemporaryDirectory(prefix="tav-store-")
        super().__init__(Path(self._scratch.name), **options)
        self._url = url.rstrip("/")
        self._system, self._root = file_system(self._url)

    def _get(self, kind: str, key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        path = self._path(kind, key)
        if not path.is_file():
            self._system.invalidate_cache()
            part = path.with_name(f"part-{path.name}")
            with suppress(FileNotFoundError):
                download(f"{self._url}/{path.name}", part)
                part.replace(path)
        try:
            return super()._get(kind, key)
        except ValueError:  # half of it came; it is made again
            path.unlink(missing_ok=True)
            return None

    def _put(self, kind: str, key: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        super()._put(kind, key, tensors, metadata)
        path = self._path(kind, key)
        self._system.put_file(str(path), f"{self._root}/{path.name}")
        if kind == "tuned":
            with suppress(FileNotFoundError):
                self._system.rm_file(f"{self._root}/{self._path('run', key).name}")
