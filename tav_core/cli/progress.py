"""A progress bar in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from tqdm import tqdm

Step = TypeVar("Step")


def show_progress(steps: Iterator[Step], label: str, total: int) -> Iterator[Step]:
    """Yield steps, with a bar on standard error that shows the loss of steps which have one."""
    with tqdm(desc=f"{label:>22}", total=total, dynamic_ncols=True) as bar:
        for step in steps:
            bar.update(getattr(step, "step", bar.n + 1) - bar.n)  # a resumed tuning begins in the middle
            if (loss := getattr(step, "loss", None)) is not None:
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            yield step
        bar.update(total - bar.n)
