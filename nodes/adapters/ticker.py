"""A thread beside a long step: it keeps the text on the node true, and plays the preview of a clip."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

FRAME_SECONDS, TEXT_SECONDS = 0.125, 0.5


class Ticker:
    """Calls two functions at regular times while it is entered.

    Arguments:
        tick: called twice a second.
        send: called with the next one of the frames, eight times a second where there are any.
    """

    def __init__(self, tick: Callable[[], None], send: Callable[[Any], None] | None = None):
        self._tick, self._send = tick, send
        self._frames: Sequence[Any] = ()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def play(self, frames: Sequence[Any]) -> None:
        """Send these frames from now on, over and over."""
        self._frames = frames

    def __enter__(self) -> "Ticker":
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="tune-a-video progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        assert self._thread
        self._thread.join()

    def _run(self) -> None:
        moments = round(TEXT_SECONDS / FRAME_SECONDS)
        moment = 0
        while not self._ended.wait(FRAME_SECONDS):
            moment += 1
            frames = self._frames
            if frames and self._send:
                self._send(frames[moment % len(frames)])
            if moment % moments == 0:
                self._tick()
