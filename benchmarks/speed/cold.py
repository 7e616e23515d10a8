"""From cold: load a UNet of Stable Diffusion 1.5's size and inflate it, against reading its file.

    python -m benchmarks speed cold [--dtype float16] [--rounds 5] [--tiny]

Loading checks the folder, reads safetensors and builds the network, as `load_model` does for each of its parts; the
weights are in the mapped file, so each of its pages is touched once too. The file is read from the disk, by the clock,
with none of it in memory, which is what "cold" means; and from the page cache, by the processor's seconds.
The peak of memory is of a process that only loads.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks import harness
from benchmarks.results import report, table
from benchmarks.speed import unet
from tav_core import inflate
from tav_core.models.base import read_network

CHUNK = 2**24  # bytes read at once
PAGE = 4096  # bytes
FILE = "diffusion_pytorch_model.safetensors"
BYTES = "bytes of the file"
HEAD = ["read", "from the disk, s", "against the bytes", "from the page cache, s", "against the bytes"]


def read_bytes(folder: Path) -> int:
    """All bytes of the weights' file, once, into a buffer that is used again."""
    buffer, size = bytearray(CHUNK), 0
    with (folder / FILE).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            size += count
    return size


def touch(network: nn.Module) -> None:
    """Bring each page of the weights into memory."""
    for weight in network.parameters():
        weight.detach().flatten()[:: PAGE // weight.element_size()].sum()


def read_tensors(folder: Path, dtype: torch.dtype) -> None:
    touch(read_network(folder, dtype))


def read_and_inflate(folder: Path, dtype: torch.dtype) -> None:
    touch(inflate(read_network(folder, dtype)))


def from_disk(folder: Path, read: Callable[[], object]) -> float:
    """Seconds by the clock, with the file out of the page cache."""
    gc.collect()  # what an earlier run mapped
    with (folder / FILE).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return harness.seconds_of(read)


def peak_of_loading(folder: Path, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes resident before and at the peak, in a process of its own."""
    before = harness.resident()
    read_and_inflate(folder, dtype)
    return before, harness.peak_resident()


def loading(folder: Path, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    return {
        BYTES: partial(read_bytes, folder),
        "tensors": partial(read_tensors, folder, dtype),
        "tensors, inflated": partial(read_and_inflate, folder, dtype),
    }


def run(options: list[str]) -> str:
    parser = unet.parser(__name__, __doc__)
    parser.set_defaults(dtype="float16", rounds=5)
    args = parser.parse_args(options)
    case = unet.Case(dtype=getattr(torch, args.dtype), tiny=args.tiny)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "unet"
        case.unet().save_pretrained(folder)
        unet.drawn_weights.cache_clear()
        os.sync()  # pages that wait to be written stay in memory
        size, runs = read_bytes(folder), loading(folder, case.dtype)
        cold_runs = {name: partial(from_disk, folder, read) for name, read in runs.items()}
        disk, cache = (harness.interleaved(reads, args.rounds, "cpu") for reads in (cold_runs, runs))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            before, peak = pool.apply(peak_of_loading, (folder, case.dtype))
    note = f"file {size / 2**20:.0f} MiB; peak of loading and inflating {(peak - before) / 2**20:.0f} MiB"
    rows = [[name, *(text for spent in (disk, cache) for text in _against(spent, name))] for name in runs]
    return report(harness.machine(), table(HEAD, rows), note)


def _against(seconds: dict[str, float], name: str) -> tuple[str, str]:
    return f"{seconds[name]:.2f}", f"{seconds[name] / seconds[BYTES]:.2f}"
