"""What runs on a card of so many GB: each step under rising caps on memory, in a process of its own, peak and speed.

python -m benchmarks.cards [--frames 8 16 24] [--latent 64] [--dtype float16] [--memory 6 8 12 16 24] [--device cuda]

A GiB of each card is left to the driver, the screen and other programs. Cards are tried from the smallest up, and the
first that a step runs on is named with the peak there. Utilisation counts the arithmetic of the step without what
checkpointing repeats, against a large matrix product in the same process. On a CPU the cap is the system's limit on
a process's data, counted from before the model is made.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import harness
from benchmarks.fits import SOURCE_BRANCH
from benchmarks.harness import Case, Config
from benchmarks.plan import predicted
from tav_core import TuningConfig
from tav_core.memory.budget import ran_out_of_memory

HEAD = ["case", "step", "card, GB", "peak, GiB", "planned, GiB", "seconds", "TFLOP/s", "of a product's"]


@dataclass(frozen=True)
class Run:
    """What a step took: bytes at the peak with the weights, seconds, and flops a second of a large matrix product."""

    peak: float
    seconds: float
    product: float


def under(limits: list[float], case: Case, config: Config, rounds: int) -> tuple[float, Run] | None:
    """The first of rising caps, in bytes, that a step runs under, and what it took; None where all are too low.

    A GPU's are tried in one process. Where some are too low, those from the first that is not are tried in another:
    cuDNN remembers the slower kernels that it took where memory was short.
    """
    together = [limits] if harness.is_cuda(case.device) else [[limit] for limit in limits]
    for some in together:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                found = pool.submit(_run, some, case, config, rounds).result()
            except BrokenProcessPool:  # a library that gives up where an allocation of the CPU's memory fails
                if case.device != "cpu":
                    raise
                continue
        if found:
            enough = some.index(found[0])
            return under(some[enough:], case, config, rounds) if enough else found
    return None


def _run(limits: list[float], case: Case, config: Config, rounds: int) -> tuple[float, Run] | None:
    product = product_rate(case)
    harness.video_step(replace(case, tiny=True, latent=16), config)()  # brings the kernels' code into memory
    harness.drawn_weights.cache_clear()
    for limit in limits:
        gc.collect()
        before = cap(limit, case.device)
        try:
            seconds = _timed(harness.video_step(case, config), case.device, rounds)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            continue
        cuda = harness.is_cuda(case.device)
        peak = torch.cuda.max_memory_allocated(case.device) if cuda else harness.peak_resident() - before
        return limit, Run(peak, seconds, product)
    return None


def _timed(step: Callable[[], None], device: str, rounds: int) -> float:
    """Median seconds of a step, after one that is not timed."""
    seconds = []
    for _ in range(1 + rounds):
        began = time.perf_counter()
        step()
        harness.finish(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def cap(limit: float, device: str) -> float:
    """Let this process take so many bytes more; returns what it has on a CPU."""
    if harness.is_cuda(device):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        share = limit / torch.cuda.mem_get_info(device)[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
        return 0
    harness.forget_peak()
    status = Path("/proc/self/status").read_text()
    data = int(status.partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (data + int(limit), resource.RLIM_INFINITY))
    return harness.resident()


def product_rate(case: Case) -> float:
    """Flops a second of a large matrix product in the case's type, the best of five.

    In float32 TensorFloat-32 is let in, as torch lets it into convolutions.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    side = 8192 if harness.is_cuda(case.device) else 1024
    matrix = torch.ones(side, side, dtype=case.dtype, device=case.device)
    best = float("inf")
    for _ in range(5):
        harness.finish(case.device)
        began = time.perf_counter()
        matrix @ matrix
        harness.finish(case.device)
        best = min(best, time.perf_counter() - began)
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * side**3 / best


def row(case: Case, name: str, config: Config, cards: list[float], rounds: int) -> list[str]:
    planned = predicted(case, config)
    repeated_nothing = replace(config, gradient_checkpointing=False) if isinstance(config, TuningConfig) else config
    flops = predicted(case, repeated_nothing).flops
    found = under([card * 2**30 - SOURCE_BRANCH for card in sorted(cards)], case, config, rounds)
    cells: list[Any] = [str(case), name, f"above {max(cards):g}", "", f"{planned.peak / 2**30:.2f}", "", "", ""]
    if found:
        limit, run = found
        rate = flops / run.seconds
        cells[2:4] = f"{(limit + SOURCE_BRANCH) / 2**30:g}", f"{run.peak / 2**30:.2f}"
        cells[5:] = f"{run.seconds:.2f}", f"{rate / 1e12:.2f}", f"{rate / run.product:.0%}"
    print(cells, file=sys.stderr)
    return cells


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--memory", type=float, nargs="+", default=[6, 8, 12, 16, 24], help="of the cards, GB")
    parser.set_defaults(frames=[8, 16, 24], latent=64, dtype="float16", rounds=3)
    args = parser.parse_args()
    rows = [
        row(case, name, config, args.memory, args.rounds)
        for case in harness.cases(args)
        for name, config in harness.KINDS.items()
    ]
    print(harness.machine(args.device))
    print(harness.table(HEAD, rows))


if __name__ == "__main__":
    main()
