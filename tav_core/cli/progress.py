"""A progress bar for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from tqdm import tqdm

Step = TypeVar("Step")


def show_progress(steps: Iterator[Step], label: str, total: int) -> Iterator[Step]:
    """Pass steps on, with a bar on standard error; the loss is shown where a step has one."""
    with tqdm(desc=f"{label:>22}", total=total, dynamic_ncols=True) as bar:
        for step in steps:
            bar.update(getattr(step, "step", bar.n + 1) - bar.n)  # a tuning may go on in its midst
            if (loss := getattr(step, "loss", None)) is not None:
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            yield step
        bar.update(total - bar.n)
