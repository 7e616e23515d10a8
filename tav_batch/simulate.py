"""A simulated clock: how long a plan takes on so many workers, and what they wait for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .handout import Group, Handout


@dataclass(frozen=True)
class Simulation:
    """What a plan came to on the simulated clock.

    Attributes:
        seconds: from the first row to the end of the last.
        busy: seconds of work of all workers.
        loading: of them, spent on loading models.
        store: of them, spent on reading and writing the store.
        idle: seconds in which workers had nothing to do.
        tunings: how many were made.
    """

    seconds: float
    busy: float
    loading: float
    store: float
    idle: float
    tunings: int


@dataclass(frozen=True)
class Costs:
    """Seconds of what is not in the rows themselves.

    Attributes:
        load: of a model, by each worker that changes to it.
        store_bytes: of a tuning in the store, which is written once and read by each further worker that takes it.
        bandwidth: bytes a second of the store, which all workers share; infinite for a store in memory.
    """

    load: float = 0.0
    store_bytes: float = 0.0
    bandwidth: float = float("inf")


def simulate(
    groups: Sequence[Group], seconds: Callable[[int], tuple[float, float]], workers: int, costs: Costs = Costs()
) -> Simulation:
    """Run a plan on a simulated clock, handed out as the driver does it.

    Arguments:
        groups: of the plan, in order.
        seconds: of a row: of tuning its clip, where that is still to do, and of the rest.
        workers: how many.
        costs: beside the rows.
    """
    handout, models, clips = Handout(groups), dict.fromkeys(range(workers), ""), dict.fromkeys(range(workers), "")
    group_of = {row: group for group in groups for row in group.rows}
    tuned: set[str] = set()
    running: list[tuple[float, int, int]] = []  # end, worker, row
    idle, now, store_free = {*range(workers)}, 0.0, 0.0
    sums = dict.fromkeys(("busy", "loading", "store"), 0.0)
    while True:
        for worker in sorted(idle):
            if (row := handout.next(worker)) is None:
                continue
            idle.discard(worker)
            group = group_of[row]
            once, each = seconds(row)
            load = 0.0 if models[worker] == group.model else costs.load
            transfer = 0.0
            if clips[worker] != group.key or group.key not in tuned:
                begin = max(now, store_free)
                transfer = costs.store_bytes / costs.bandwidth + (begin - now if costs.store_bytes else 0.0)
                store_free = begin + costs.store_bytes / costs.bandwidth
            spent = each + load + transfer + (0.0 if group.key in tuned else once)
            sums = {"busy": sums["busy"] + spent, "loading": sums["loading"] + load, "store": sums["store"] + transfer}
            models[worker], clips[worker] = group.model, group.key
            heapq.heappush(running, (now + spent, worker, row))
        if not running:
            break
        now, worker, row = heapq.heappop(running)
        idle.add(worker)
        tuned.add(group_of[row].key)
        handout.done(row, tuned=True)
    return Simulation(now, **sums, idle=workers * now - sums["busy"], tunings=len(tuned))
