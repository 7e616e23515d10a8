"""Who runs what, on a simulated clock."""

import random
from collections import Counter

import pytest

from tav_batch.handout import Group, Handout, grouped
from tav_batch.simulate import Costs, simulate


def test_groups_are_by_model_and_the_largest_is_first() -> None:
    rows = [(0, "a", "m"), (1, "b", "m"), (2, "c", "n"), (3, "b", "m"), (4, "c", "n"), (5, "c", "n")]
    assert grouped(rows) == [Group("b", "m", (1, 3)), Group("a", "m", (0,)), Group("c", "n", (2, 4, 5))]


def test_a_clip_is_shared_only_after_it_is_tuned() -> None:
    handout = Handout([Group("a", "m", (0, 1, 2, 3))])
    assert handout.next("x") == 0 and handout.next("y") is None
    handout.done(0, tuned=False)  # the edit failed before its tuning was stored
    assert handout.next("x") == 1 and handout.next("y") is None
    handout.done(1, tuned=True)
    assert (handout.next("x"), handout.next("y")) == (2, 3)
    handout.again(3)
    handout.done(2, tuned=True)
    assert handout.next("x") == 3 and handout.next("x") is None


def test_without_a_shared_store_a_clip_stays_with_its_worker_unless_that_is_lost() -> None:
    handout = Handout([Group("a", "m", (0, 1))])
    handout.shared = False
    assert handout.next("x") == 0
    handout.done(0, tuned=True)
    assert handout.next("y") is None and handout.next("x") == 1
    handout.again(1)
    assert handout.next("y") is None
    handout.lost("x")
    assert handout.next("y") == 1


def test_workers_stay_on_their_model() -> None:
    handout = Handout([Group(f"m{n}", "m", (n,)) for n in range(2)] + [Group(f"n{n}", "n", (2 + n,)) for n in range(2)])
    taken = []
    for worker in ("x", "y", "x", "y"):
        row = handout.next(worker)
        taken.append(row)
        handout.done(row, tuned=True)
    assert taken == [0, 1, 2, 3]
    handout = Handout([Group("m0", "m", (0,)), Group("n0", "n", (1,)), Group("m1", "m", (2,))])
    assert handout.next("x") == 0
    handout.done(0, tuned=True)
    assert handout.next("x") == 2, "of its own model, though another is next"


@pytest.mark.parametrize("seed", range(20))
def test_every_row_ends_once_and_no_clip_is_tuned_twice_whatever_dies(seed: int) -> None:
    chance = random.Random(seed)
    groups = grouped((row, f"g{chance.randrange(8)}", f"m{chance.randrange(2)}") for row in range(40))
    handout, running, ended, tuning = Handout(groups), {}, Counter(), Counter()
    group_of, tuned = {row: group.key for group in groups for row in group.rows}, set()
    while sum(ended.values()) < 40:
        for worker in range(5):
            if worker not in running and (row := handout.next(worker)) is not None:
                running[worker] = row
                if group_of[row] not in tuned:
                    assert tuning[group_of[row]] == 0, "two workers tune the same clip"
                    tuning[group_of[row]] += 1
        assert running, "workers wait and nothing runs"
        worker = chance.choice([*running])
        row = running.pop(worker)
        died = chance.random() < 0.2
        if group_of[row] not in tuned:
            tuning[group_of[row]] -= 1
        if died:
            handout.again(row)
        else:
            tuned.add(group_of[row])
            handout.done(row, tuned=True)
            ended[row] += 1
    assert set(ended.values()) == {1} and handout.next(9) is None


def test_the_simulated_clock_tunes_once_and_counts_what_workers_wait_for() -> None:
    groups = [Group("a", "m", (0, 1, 2)), Group("b", "m", (3,))]
    alone = simulate(groups, lambda row: (10.0, 1.0), 1, Costs(load=5.0))
    assert (alone.seconds, alone.tunings, alone.loading, alone.idle) == (29.0, 2, 5.0, 0.0)
    pair = simulate(groups, lambda row: (10.0, 1.0), 2, Costs(load=5.0))
    assert pair.seconds == 17.0 and pair.tunings == 2 and pair.loading == 10.0
    assert pair.idle == 2 * 17.0 - pair.busy
    stored = simulate(groups, lambda row: (10.0, 1.0), 2, Costs(store_bytes=4.0, bandwidth=2.0))
    assert stored.store == 2.0 + (2.0 + 2.0), "the second waits for the first"
    assert stored.seconds == 15.0
