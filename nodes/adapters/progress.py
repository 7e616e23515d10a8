"""Steps of the core's generators with the host's progress bar, a line of text on the node, and Stop."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
import torch
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer
from torch import Tensor

T = TypeVar("T")
TEXT_INTERVAL = 0.5  # seconds
PREVIEW_SIZE = 512  # pixels


class Progress:
    """A progress bar over a known number of steps."""

    def __init__(self, total: int):
        self.total = total
        self.bar = comfy.utils.ProgressBar(total)
        context = get_executing_context()
        self.node_id = context.node_id if context else None
        self.began = self.last_text = 0.0
        self.done = 0
        self.picture: Image.Image | None = None

    def over(
        self, steps: Iterator[T], describe: Callable[[T], str | None] = lambda _: "", *, done: int = 0
    ) -> Iterator[T]:
        """Take the steps one by one and show each; see `interruptible`.

        Arguments:
            describe: the text for a step, shown with its number and the time left; None for an item that is no step.
            done: how many were made earlier and are not among the steps.
        """
        self.began, self.done, number = time.monotonic(), done, done
        if done:
            self.bar.update_absolute(done, self.total)
            self.set_text(f"{done} of {self.total} steps were stored")
        for step in interruptible(steps):
            yield step
            text = describe(step)
            number += text is not None
            preview = None if self.picture is None else ("JPEG", self.picture, PREVIEW_SIZE)
            self.picture = None
            self.bar.update_absolute(number, self.total, preview)
            if text is not None:
                self._show_step(number, text)

    def show(self, frames: Tensor) -> None:
        """Show the middle one of frames (f, h, w, 3) in [0, 1] with the next update."""
        pixels = (frames[len(frames) // 2].clamp(0, 1) * 255).round().to(torch.uint8)
        self.picture = Image.fromarray(pixels.cpu().numpy())

    def _show_step(self, number: int, text: str) -> None:
        now = time.monotonic()
        if now - self.last_text < TEXT_INTERVAL and number not in (1, self.total):
            return
        self.last_text = now
        left = (now - self.began) / (number - self.done) * (self.total - number)
        parts = [f"step {number} of {self.total}", text, f"{_duration(left)} left"]
        self.set_text(", ".join(part for part in parts if part))

    def set_text(self, text: str) -> None:
        """Show a text on the node, in place of that of the last step."""
        if self.node_id is not None:
            PromptServer.instance.send_progress_text(text, self.node_id)


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
