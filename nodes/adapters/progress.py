"""Steps of the core's generators with the host's progress bar, a text on the node, a moving preview, and Stop.

What a node reports stays on it: the last text of a run is the report, the warnings, or where Stop ended it.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
import torch
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer
from torch import Tensor

from .ticker import Ticker
from .work import SILENCE, shown, telling_steps

T = TypeVar("T")
TEXT_INTERVAL = 0.5  # seconds
PREVIEW_SIZE = 512  # pixels


class Progress:
    """A progress bar over a known number of steps.

    Attributes:
        warnings: shown below each text, and logged.
    """

    def __init__(self, total: int, warnings: Sequence[str] = ()):
        self.total = total
        self.bar = comfy.utils.ProgressBar(total)
        context = get_executing_context()
        self.node_id = context.node_id if context else None
        self.prompt_id = context.prompt_id if context else None
        self.warnings = [f"Warning: {warning}" for warning in warnings]
        for warning in self.warnings:
            logging.warning(f"Tune-A-Video: {warning}")
        self.began = self.last_text = 0.0
        self.done = 0
        self.picture: Image.Image | None = None
        self.ticker = Ticker(self._tick, self._send_picture)
        self._state: tuple[int, str, float] | None = None  # of the last step: number, text, when it ended

    def over(
        self, steps: Iterator[T], describe: Callable[[T], str | None] = lambda _: "", *, done: int = 0
    ) -> Iterator[T]:
        """Take the steps one by one and show each; see `interruptible`. After the last one the text is `closing_text`.

        Arguments:
            describe: the text for a step, shown with its number and the time left; None for an item that is no step.
            done: how many were made earlier and are not among the steps.
        """
        self.began, self.done, number = time.monotonic(), done, done
        if done:
            self.bar.update_absolute(done, self.total)
        self.set_text(f"{done} of {self.total} steps were stored" if done else "starting")
        with self._marked(), telling_steps(), self.ticker:
            for step in interruptible(steps):
                yield step
                text = describe(step)
                number += text is not None
                preview = None if self.picture is None else ("JPEG", self.picture, PREVIEW_SIZE)
                self.picture = None
                self.bar.update_absolute(number, self.total, preview)
                if text is not None:
                    self._show_step(number, text)
        self.set_text(self.closing_text)

    @property
    def closing_text(self) -> str:
        """What stays on a node without a report: the number of steps and the time they took."""
        made = self.total - self.done
        return f"{made} steps in {_duration(time.monotonic() - self.began)}" if made else "loaded from the store"

    def show(self, frames: Tensor) -> None:
        """Show the middle one of frames (f, h, w, 3) in [0, 1] with the next update."""
        self.picture = as_picture(frames[len(frames) // 2])

    def play(self, frames: Tensor | None) -> None:
        """Show frames (f, h, w, 3) in [0, 1] one after the other, over and over, until the next ones or the end."""
        if frames is not None:
            self.ticker.play([as_picture(frame) for frame in frames])

    def report(self, text: str = "") -> str:
        """Show a report with the warnings, to stay on the node; returns both."""
        if text or self.warnings:
            self.set_text(text)
        return "\n".join([*filter(None, [text]), *self.warnings])

    def set_text(self, text: str) -> None:
        """Show a text on the node, in place of that of the last step, and the warnings below it."""
        shown.send("\n".join([text, *self.warnings]), self.node_id)

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """After Stop or an error the text says so, and at which step."""
        try:
            yield
        except comfy.model_management.InterruptProcessingException:
            self.set_text(f"stopped after step {self._number} of {self.total}")
            raise
        except Exception:
            self.set_text(f"failed after step {self._number} of {self.total}")
            raise

    @property
    def _number(self) -> int:
        return self._state[0] if self._state else self.done

    def _show_step(self, number: int, text: str) -> None:
        now = time.monotonic()
        self._state = number, text, now
        if now - self.last_text >= TEXT_INTERVAL or number in (1, self.total):
            self._send_step()

    def _tick(self) -> None:
        """Called twice a second: keeps the time left true while a long step runs."""
        now = time.monotonic()
        if now - self.last_text < SILENCE:
            return
        if self._state:
            self._send_step()
        else:
            self.last_text = now
            self.set_text(f"first step of {self.total}, {_duration(now - self.began)} so far")

    def _send_step(self) -> None:
        assert self._state
        number, text, ended = self._state
        now = self.last_text = time.monotonic()
        left = (ended - self.began) / max(1, number - self.done) * (self.total - number) - (now - ended)
        parts = [f"step {number} of {self.total}", text, f"{_duration(max(0, left))} left"]
        self.set_text(", ".join(part for part in parts if part))

    def _send_picture(self, picture: Image.Image) -> None:
        """The host's own way of showing a picture counts a step too, and clears a Stop that it sees first."""
        from server import BinaryEventTypes

        server = PromptServer.instance
        names = ("node_id", "display_node_id", "parent_node_id", "real_node_id")
        place = dict.fromkeys(names, self.node_id) | {"prompt_id": self.prompt_id}
        shown = ("JPEG", picture, PREVIEW_SIZE)
        server.send_sync(BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, (shown, place), server.client_id)


def show_text(text: str) -> None:
    """Show a text on the running node, to stay there."""
    Progress(1).set_text(text)


def as_picture(frame: Tensor) -> Image.Image:
    """A frame (h, w, 3) in [0, 1] as a picture."""
    return Image.fromarray((frame.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def raise_if_interrupted() -> None:
    """End the node by the host's own exception if Stop was pressed."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def interruptible(steps: Iterator[T]) -> Iterator[T]:
    """The same steps. Stop ends them before the next one, and closes `steps`."""
    with closing(steps):
        raise_if_interrupted()
        for step in steps:
            yield step
            raise_if_interrupted()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def decode_frame(vae: Any, samples: Tensor) -> Tensor:
    """One frame of the host's latents (1, c, h, w) to pixels (1, h, w, 3), on the CPU."""
    with torch.inference_mode():  # the host's own modules know no other
        return vae.decode(samples).cpu()
