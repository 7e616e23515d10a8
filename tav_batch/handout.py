"""Which row a worker takes next: pure bookkeeping, the same for processes, servers and the simulation."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share clip, caption and tuning.

    Attributes:
        key: of the tuning.
        model: that they run on.
        rows: their numbers, in the order of the table.
    """

    key: str
    model: str
    rows: tuple[int, ...]


@dataclass(eq=False)
class _Open:
    """A group while it is worked at, by its owner; a tuned one may be shared by workers."""

    group: Group
    left: deque[int]
    owner: Hashable | None = None
    running: int = 0
    tuned: bool = False


class Handout:
    """Hands out rows so that a clip is tuned by one worker, and workers change clip and model as seldom as possible.

    A worker takes the next row of its clip; else a clip that nobody has begun, of its model if there is one; else a row
    of a clip that another worker has tuned, which it finds in the store.

    Arguments:
        groups: in the order in which they are begun.

    Attributes:
        shared: whether workers reach the tunings of others; where they do not, they share no clip.
    """

    def __init__(self, groups: Sequence[Group]):
        self.shared = True
        self._unbegun = deque(_Open(group, deque(group.rows)) for group in groups)
        self._begun: dict[str, _Open] = {}
        self._of_worker: dict[Hashable, _Open] = {}
        self._of_row: dict[int, _Open] = {}
        self._models: dict[Hashable, str] = {}

    def next(self, worker: Hashable) -> int | None:
        """A row for an idle worker; None if there is none for now, or none at all."""
        chosen = self._choose(worker)
        if chosen is None:
            return None
        row = chosen.left.popleft()
        chosen.running += 1
        self._of_worker[worker] = self._of_row[row] = chosen
        self._models[worker] = chosen.group.model
        return row

    def done(self, row: int, *, tuned: bool) -> None:
        """A row has ended. Arguments: tuned, whether its clip's tuning is now in the store."""
        opened = self._of_row.pop(row)
        opened.running -= 1
        opened.tuned |= tuned
        if not opened.left and not opened.running:
            self._begun.pop(opened.group.key, None)

    def again(self, row: int) -> None:
        """A row has not ended, such as where its worker died, and is to be run again, after the rest of its clip."""
        opened = self._of_row.pop(row)
        opened.running -= 1
        opened.left.append(row)

    def lost(self, worker: Hashable) -> None:
        """A worker is gone for good; others may take its clip."""
        for opened in self._begun.values():
            if opened.owner == worker:
                opened.owner = None

    def _choose(self, worker: Hashable) -> _Open | None:
        own = self._of_worker.get(worker)
        if own is not None and own.left and (own.tuned or not own.running):
            return own
        if self._unbegun:
            opened = self._begin(self._models.get(worker))
            opened.owner = worker
            return opened
        ready = [opened for opened in self._begun.values() if opened.left and self._is_ready(opened)]
        chosen = max(ready, key=lambda opened: len(opened.left), default=None)
        if chosen is not None and chosen.owner is None:
            chosen.owner = worker
        return chosen

    def _is_ready(self, opened: _Open) -> bool:
        """Whether a worker may take rows of another one's clip."""
        return (opened.tuned and self.shared) or opened.owner is None

    def _begin(self, model: str | None) -> _Open:
        """The next group, of this model if one of the next is."""
        chosen = next((opened for opened in self._unbegun if opened.group.model == model), self._unbegun[0])
        self._unbegun.remove(chosen)
        self._begun[chosen.group.key] = chosen
        return chosen


def grouped(rows: Iterable[tuple[int, str, str]]) -> list[Group]:
    """Groups of (row, key, model), by model; the largest first, which leaves the fewest workers idle at the end."""
    found: dict[str, list[int]] = {}
    models: dict[str, str] = {}
    for row, key, model in rows:
        found.setdefault(key, []).append(row)
        models[key] = model
    first = {model: number for number, model in reversed(list(enumerate(models.values())))}
    groups = [Group(key, models[key], tuple(numbers)) for key, numbers in found.items()]
    return sorted(groups, key=lambda group: (first[group.model], -len(group.rows), group.rows[0]))
