"""The iterators that a store returns: a tuning with its updates so far, an inversion with its reconstruction SNR."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

from ..editing.inversion import InversionStep
from ..tuning.config import TuningStep

if TYPE_CHECKING:
    from .store import Store

Step = TypeVar("Step")


class Run(Iterator[Step]):
    """The steps that are left, one for each item taken."""

    def __init__(self, left: Iterator[Step]):
        self._left = left

    def __next__(self) -> Step:
        return next(self._left)

    def close(self) -> None:
        """Stop. With a store the state of a tuning is saved; of an unfinished inversion nothing is."""
        if isinstance(self._left, Generator):
            self._left.close()


class StoredTuning(Run[TuningStep]):
    """The updates of a tuning that are left to make, one for each item taken.

    Attributes:
        key: of its entries in the store.
        steps: all updates made so far, those of earlier runs included.
    """

    def __init__(self, key: str, steps: list[TuningStep], updates: Iterator[TuningStep]):
        super().__init__(updates)
        self.key, self.steps = key, steps


class StoredInversion(Run[InversionStep]):
    """The steps of an inversion, one for each item taken.

    Attributes:
        key: of its entries in the store.

    Arguments:
        store: holds the reconstruction SNR under this key.
    """

    def __init__(self, key: str, steps: Iterator[InversionStep], store: Store):
        super().__init__(steps)
        self.key, self._store = key, store

    @property
    def reconstruction_snr(self) -> float | None:
        """Of the inversion, in dB, see `editing/reconstruction.py`; None if none was saved."""
        return self._store.load_snr(self.key)

    def save_reconstruction_snr(self, decibels: float) -> None:
        """Save the reconstruction SNR, so that the inversion need not be sampled again to measure it.

        Raises:
            OSError: if the folder or its disk cannot be written to.
        """
        self._store.save_snr(self.key, decibels)
