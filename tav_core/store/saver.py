"""Saves the state of a tuning while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing

import torch

from ..tuning.config import TuningConfig, TuningStep
from ..tuning.state import TuningState


class StateSaver:
    """Saves the state of a tuning every some updates, at its end, and wherever it is interrupted.

    Arguments:
        state: the tuning, which `tune` updates in place.
        config: of the tuning.
        save: writes the state as it is now.
        every: updates between two saved states.
        share: of the time of the tuning that saving may take; a state beyond it is skipped.
    """

    def __init__(self, state: TuningState, config: TuningConfig, save: Callable[[], None], *, every: int, share: float):
        self.state, self.config, self.save, self.every, self.share = state, config, save, every, share
        self.saved = len(state.steps)  # updates in the last state saved
        self.began = time.monotonic()
        self.last_cost = self.cost = 0.0  # seconds of the last save, and of all

    def over(self, updates: Generator[TuningStep, None, None]) -> Generator[TuningStep, None, None]:
        """Yield updates, each after its state is saved if that is due; save the last state however the run ends."""
        try:
            with closing(updates):
                for step in updates:
                    if self._due():
                        self._raise_unless_finite()
                        self._save()
                    yield step
        finally:
            if self.state.whole and self.saved < len(self.state.steps) and self._finite():
                self._save()

    def _due(self) -> bool:
        made = len(self.state.steps)
        affordable = self.share * (time.monotonic() - self.began)
        cheap = self.cost + self.last_cost <= affordable
        return made == self.config.steps or (made % self.every == 0 and cheap)

    def _save(self) -> None:
        self.saved = len(self.state.steps)  # even if it fails: the same state would fail again in `finally`
        began = time.monotonic()
        self.save()
        self.last_cost = time.monotonic() - began
        self.cost += self.last_cost

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(weight).all()) for weight in self.state.weights().values())

    def _raise_unless_finite(self) -> None:
        if not self._finite():
            self.saved = len(self.state.steps)
            raise FloatingPointError(
                f"After tuning step {self.saved} a weight is not finite; the state saved before it remains. "
                f"Lower learning_rate (now {self.config.learning_rate})."
            )
