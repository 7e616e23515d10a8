"""The smallest card for each step, with its peak and speed: steps run under rising caps on memory, in processes apart.

    python -m benchmarks speed cards [--frames 8 16 24] [--latent 64] [--dtype float16] [--memory 6 8 12 16 24]

A GiB of each card is left to the driver, the screen and other programs. Cards are tried from the smallest up; the table
has the first that a step runs on, and the peak there. Utilisation is the arithmetic of the step, without what
checkpointing repeats, against a large matrix product in the same process. On a CPU the cap is the system's limit on
a process's data, counted from before the model is made.
"""

from __future__ import annotations

import gc
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

from benchmarks import harness
from benchmarks.harness import Config, seconds_of
from benchmarks.results import report, table
from benchmarks.speed import unet
from benchmarks.speed.fits import BESIDE_TENSORS
from benchmarks.speed.unet import Case
from tav_core import TuningConfig
from tav_core.memory.budget import ran_out_of_memory

HEAD = ["case", "step", "card, GB", "peak, GiB", "estimated, GiB", "seconds", "TFLOP/s", "of a product's"]


@dataclass(frozen=True)
class Run:
    """What a step took: bytes at the peak with the weights, seconds, and flops a second of a large matrix product."""

    peak: float
    seconds: float
    product: float


def smallest(limits: list[float], case: Case, config: Config, rounds: int) -> tuple[float, Run] | None:
    """The first of rising caps, in bytes, that a step runs under, and what it took; None where all are too low.

    A GPU's are tried in one process. Where some are too low, those from the first that is not are tried in another:
    after a shortage of memory cuDNN stays with the slower kernels that it took then.
    """
    together = [limits] if harness.is_cuda(case.device) else [[limit] for limit in limits]
    for some in together:
        found = _in_a_process(some, case, config, rounds)
        if found:
            enough = some.index(found[0])
            return smallest(some[enough:], case, config, rounds) if enough else found
    return None


def _in_a_process(limits: list[float], case: Case, config: Config, rounds: int) -> tuple[float, Run] | None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_run, limits, case, config, rounds).result()
        except BrokenProcessPool:  # some libraries end the process where an allocation of the CPU's memory fails
            if case.device != "cpu":
                raise
            return None


def _run(limits: list[float], case: Case, config: Config, rounds: int) -> tuple[float, Run] | None:
    product = product_rate(case)
    unet.warm_up(unet.video_step, case, config)
    for limit in limits:
        gc.collect()
        before = cap(limit, case.device)
        try:
            seconds = _timed(unet.video_step(case, config), case.device, rounds)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            continue
        cuda = harness.is_cuda(case.device)
        peak = torch.cuda.max_memory_allocated(case.device) if cuda else harness.peak_resident() - before
        return limit, Run(peak, seconds, product)
    return None


def _timed(step: unet.Run, device: str, rounds: int) -> float:
    """Median seconds of a step, after one that is not timed."""
    step()
    return median(seconds_of(step, device) for _ in range(rounds))


def cap(limit: float, device: str) -> float:
    """Let this process take so many bytes more; returns the bytes that it has, 0 on a GPU."""
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

    In float32 TensorFloat-32 is allowed, as torch allows it in convolutions.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    side = 8192 if harness.is_cuda(case.device) else 1024
    matrix = torch.ones(side, side, dtype=case.dtype, device=case.device)
    best = min(seconds_of(lambda: matrix @ matrix, case.device) for _ in range(5))
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * side**3 / best


def row(case: Case, kind: str, config: Config, cards: list[float], rounds: int) -> list[str]:
    """A row of the table."""
    without_repeats = replace(config, gradient_checkpointing=False) if isinstance(config, TuningConfig) else config
    flops = case.estimate(without_repeats).flops
    found = smallest([card * 2**30 - BESIDE_TENSORS for card in sorted(cards)], case, config, rounds)
    cells = [str(case), kind, f"above {max(cards):g}", "", f"{case.estimate(config).peak / 2**30:.2f}", "", "", ""]
    if found:
        limit, run = found
        rate = flops / run.seconds
        cells[2:4] = f"{(limit + BESIDE_TENSORS) / 2**30:g}", f"{run.peak / 2**30:.2f}"
        cells[5:] = f"{run.seconds:.2f}", f"{rate / 1e12:.2f}", f"{rate / run.product:.0%}"
    print(cells, file=sys.stderr)
    return cells


def run(options: list[str]) -> str:
    parser = unet.parser(__name__, __doc__)
    parser.add_argument("--memory", type=float, nargs="+", default=[6, 8, 12, 16, 24], help="of the cards, GB")
    parser.set_defaults(frames=[8, 16, 24], latent=64, dtype="float16", rounds=3)
    args = parser.parse_args(options)
    pairs = [(case, kind) for case in unet.cases(args) for kind in harness.KINDS]
    rows = [row(case, kind, harness.KINDS[kind], args.memory, args.rounds) for case, kind in pairs]
    return report(harness.machine(args.device), table(HEAD, rows))
