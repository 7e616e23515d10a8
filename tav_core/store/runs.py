"""What a store gives back: a tuning that keeps its states while it runs, and an inversion with what is known of it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import torch

from ..editing.inversion import InversionStep
from ..tuning.config import TuningConfig, TuningStep
from ..tuning.state import TuningState

if TYPE_CHECKING:
    from .store import Store

Step = TypeVar("Step")


class _Stored(Iterator[Step]):
    """Steps that are left, one for each item taken."""

    def __init__(self, key: str, left: Iterator[Step]):
        self.key = key
        self._left = left

    def __next__(self) -> Step:
        return next(self._left)

    def close(self) -> None:
        """Stop. The state of a tuning is kept, and nothing of an inversion that is not finished."""
        if isinstance(self._left, Generator):
            self._left.close()


class StoredTuning(_Stored[TuningStep]):
    """The updates of a tuning in a store that are left to make, one for each item taken.

    Attributes:
        key: under which it is kept.
        steps: all updates made so far, those of earlier runs included.
    """

    def __init__(self, key: str, steps: list[TuningStep], updates: Iterator[TuningStep]):
        super().__init__(key, updates)
        self.steps = steps


class StoredInversion(_Stored[InversionStep]):
    """The steps of an inversion in a store, one for each item taken.

    Attributes:
        key: under which it is kept.
    """

    def __init__(self, store: Store, key: str, steps: Iterator[InversionStep]):
        super().__init__(key, steps)
        self._store = store

    @property
    def reconstruction_snr(self) -> float | None:
        """Of the inversion, in dB, see `editing/reconstruction.py`; None if it was not saved."""
        return self._store._reconstruction_snr(self.key)

    def save_reconstruction_snr(self, decibels: float) -> None:
        """Keep how near sampling came back, so that it need not be sampled again.

        Raises:
            OSError: if the folder or its disk takes no file.
        """
        self._store._save_reconstruction_snr(self.key, decibels)


class Keeper:
    """Keeps the state of a tuning while it runs."""

    def __init__(self, store: Store, key: str, state: TuningState, config: TuningConfig, about: str):
        self.store, self.key, self.state, self.config, self.about = store, key, state, config, about
        self.kept = len(state.steps)
        self.began = time.monotonic()
        self.last_cost = self.cost = 0.0  # seconds

    def over(self, updates: Generator[TuningStep, None, None]) -> Generator[TuningStep, None, None]:
        """Pass updates on, each after it was kept if it is to be; keep the last one however it ends."""
        try:
            with closing(updates):
                for step in updates:
                    if self._due():
                        self._refuse_non_finite()
                        self._keep()
                    yield step
        finally:
            if self.state.whole and self.kept < len(self.state.steps) and self._finite():
                self._keep()

    def _due(self) -> bool:
        made = len(self.state.steps)
        affordable = self.store.save_share * (time.monotonic() - self.began)
        cheap = self.cost + self.last_cost <= affordable
        return made == self.config.steps or (made % self.store.save_every == 0 and cheap)

    def _keep(self) -> None:
        self.kept = len(self.state.steps)  # also if it fails: the same state would fail again in `finally`
        began = time.monotonic()
        self.store._keep_tuning(self.key, self.state, self.config, self.about)
        self.last_cost = time.monotonic() - began
        self.cost += self.last_cost

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(weight).all()) for weight in self.state.weights().values())

    def _refuse_non_finite(self) -> None:
        if not self._finite():
            self.kept = len(self.state.steps)
            raise FloatingPointError(
                f"After tuning step {self.kept} a weight is not finite; the state that was kept before stays. "
                f"Lower learning_rate (now {self.config.learning_rate})."
            )
