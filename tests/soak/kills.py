"""Kill processes that tune into a store, and check the store afterwards."""

import itertools
import math
import os
import random
import shutil
import signal
import stat
import time
from collections import Counter
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from tav_core import InversionConfig, Store, TuningConfig, inflate
from tav_core.store.files import read_file
from tav_core.store.folder import FORMATS
from tests.conftest import EPSILON, SD1, draw
from tests.forks import CONTEXT

CONFIG = TuningConfig(steps=20, learning_rate=1e-3, seed=5, lr_schedule="cosine", gradient_accumulation_steps=2)
CLIP, TEXT = (1, 4, 2, 4, 4), (1, 5, 12)

Content = dict[str, tuple[dict[str, Tensor], dict[str, str]]]


def work(folder: str, deadly_write: int | None) -> None:
    """Tune and invert to the end, from what the store has; the state is kept after each step.

    Arguments:
        deadly_write: at which flush to the disk the process kills itself: a file is then written and not yet renamed,
            or renamed and not yet known to be. Half of what was not flushed is lost, as where the power goes.
    """
    flushes = itertools.count()

    def fsync(number: int) -> None:
        if next(flushes) == deadly_write:
            status = os.fstat(number)
            if stat.S_ISREG(status.st_mode):
                os.ftruncate(number, status.st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        flush(number)

    flush, os.fsync = os.fsync, fsync
    torch.set_num_threads(1)
    torch.manual_seed(1)
    video_unet = inflate(UNet2DConditionModel(**SD1).eval())
    store = Store(folder, save_every=1, save_share=math.inf)
    list(store.tune(video_unet, draw(*CLIP), draw(*TEXT, seed=1), EPSILON, CONFIG))
    list(store.invert(video_unet, draw(*CLIP), draw(*TEXT, seed=2), EPSILON, InversionConfig(5)))


def run(folder: Path, seconds: float | None = None, deadly_write: int | None = None) -> bool:
    """Work in a process of its own; kill it after so many seconds. Returns whether it came to the end."""
    process = CONTEXT.Process(target=work, args=(str(folder), deadly_write))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
    if process.exitcode == -signal.SIGKILL:
        return False
    assert process.exitcode == 0
    return True


def contents(folder: Path) -> Content:
    """Tensors and metadata of all entries by name. A file that is not whole raises."""
    store = Store(folder)
    assert not store.verify()
    return {entry.path.name: read_file(entry.path, FORMATS[entry.kind]) for entry in store.entries()}


def steps_kept(folder: Path) -> int:
    """Updates that need not be made again."""
    made = [
        CONFIG.steps if "made" not in metadata else int(metadata["made"]) for _, metadata in contents(folder).values()
    ]
    return max(made, default=0)


def same(first: Content, second: Content) -> bool:
    return first.keys() == second.keys() and all(
        first[name][1] == second[name][1]
        and first[name][0].keys() == second[name][0].keys()
        and all(torch.equal(tensor, second[name][0][key]) for key, tensor in first[name][0].items())
        for name in first
    )


def kill_again_and_again(folder: Path, kills: int, seed: int = 0) -> Counter[str]:
    """Kill tunings at random moments, every other time within a write, until there were so many kills.

    After each kill no file may be broken and no kept step lost; each tuning that comes to its end must be that of the
    uninterrupted run, to the bit.

    Returns:
        Counts of "kills", of those "while a file was written", of "tunings finished" and of "kept steps lost".
    """
    counts, chance = Counter({"kept steps lost": 0}), random.Random(seed)
    warm_up = CONTEXT.Process(target=int)  # the first start waits for the imports
    warm_up.start()
    warm_up.join()
    began = time.monotonic()
    assert run(folder / "reference")
    seconds = time.monotonic() - began
    expected, store = contents(folder / "reference"), folder / "store"
    assert len(expected) == 2
    while counts["kills"] < kills or store.exists():
        kept = steps_kept(store) if store.exists() else 0
        if counts["kills"] >= kills:
            finished = run(store)
        elif counts["kills"] % 2:
            finished = run(store, deadly_write=chance.randrange(12))
        else:
            finished = run(store, chance.uniform(0, seconds / 3))
        if finished:
            assert same(contents(store), expected)
            shutil.rmtree(store)
            counts["tunings finished"] += 1
        else:
            counts["kills"] += 1
            counts["while a file was written"] += bool(list(store.glob(".*.tmp")))
            counts["kept steps lost"] += max(0, kept - steps_kept(store))
    return counts
