"""A lock on a tuning, so that processes which share a store do not compute the same one at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..atomic import remove

POLL_SECONDS = 1.0
_held: set[Path] = set()  # by this process


class RunLock:
    """Held while a tuning runs. The system releases it when the process dies, and Python when the run is dropped.

    Arguments:
        folder: of the store.
        key: of the tuning.
    """

    def __init__(self, folder: Path, key: str):
        self.path = folder.resolve() / f".run-{key}.lock"
        self._lock = FileLock(self.path, thread_local=False)

    def acquire(self, poll: Callable[[], object] | None = None) -> None:
        """Wait until no other process holds the lock. If a run of this process does, go on without it.

        Arguments:
            poll: called every second meanwhile; it may raise to stop the waiting.
        """
        waited = False
        while self.path not in _held:
            if poll is not None:
                poll()
            with suppress(Timeout):
                self._lock.acquire(timeout=POLL_SECONDS if waited else 0)
                _held.add(self.path)
                return
            if not waited:
                logging.getLogger(__name__).warning("Another process computes the same tuning: waiting for it.")
            waited = True

    def release(self) -> None:
        """Let other processes go on."""
        if self._lock.is_locked:
            with suppress(OSError):
                remove(self.path)  # another process may have opened it: at worst two compute the same
            self._lock.release()
            _held.discard(self.path)

    def __del__(self) -> None:
        self.release()
