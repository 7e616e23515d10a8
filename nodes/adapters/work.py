"""The text on the running node. A node that works is never silent for long, whatever it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import comfy.model_management
from comfy_execution.utils import get_executing_context
from server import PromptServer

from .ticker import Ticker

T = TypeVar("T")
SILENCE = 1.0  # seconds without a text, after which one is sent


class Shown:
    """What the running node shows. The host runs one node at a time.

    Attributes:
        at: when the last text was sent.
        text: the last one that the node itself sent.
        filled: whether a text that only fills a silence came after it.
        told: whether the node tells its steps itself, so that no silence is filled.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.at, self.text, self.filled, self.told = time.monotonic(), "", False, False

    def send(self, text: str, node_id: str | None) -> None:
        self._send(text, node_id)
        self.text, self.filled = text, False

    def fill(self, text: str, node_id: str | None) -> None:
        """Show a text below the last one."""
        self._send("\n".join(filter(None, [self.text, text])), node_id)
        self.filled = True

    def _send(self, text: str, node_id: str | None) -> None:
        if node_id is not None:
            PromptServer.instance.send_progress_text(text, node_id)
        self.at = time.monotonic()


shown = Shown()


@contextmanager
def telling_steps() -> Iterator[None]:
    """The node tells its steps itself in here."""
    shown.told = True
    try:
        yield
    finally:
        shown.told = False


def shows_work(execute: Callable[..., T]) -> Callable[..., T]:
    """Decorates a node's `execute`: wherever it shows nothing for a second, a text says for how long it works."""

    @wraps(execute)
    def run(*arguments: Any, **inputs: Any) -> T:
        context = get_executing_context()
        node_id = context.node_id if context else None
        began = time.monotonic()
        shown.begin()

        def fill() -> None:
            now = time.monotonic()
            if not shown.told and now - shown.at >= SILENCE:
                shown.fill(f"working, {now - began:.0f} s so far", node_id)

        ending = "failed"
        try:
            with Ticker(fill):
                result = execute(*arguments, **inputs)
            ending = "done"
            return result
        except comfy.model_management.InterruptProcessingException:
            ending = "stopped"
            raise
        finally:
            if shown.filled:
                shown.send(shown.text or f"{ending} after {time.monotonic() - began:.0f} s", node_id)

    return run
