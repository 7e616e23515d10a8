"""From cold: load a UNet of Stable Diffusion 1.5's size and inflate it, against reading its file.

python -m benchmarks.cold [--dtype float16] [--rounds 3] [--tiny]

Loading checks the folder, reads safetensors and builds the network, as `load_model` does for each of its parts. All
files lie in the page cache, so that the disk does not count. The peak of memory is of a process that only loads.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.harness import Case
from tav_core import inflate
from tav_core.models import read_network

CHUNK = 2**24  # bytes read at once


def read_bytes(folder: Path) -> int:
    """All bytes of the weights' file, once, into a buffer that is used again."""
    buffer, size = bytearray(CHUNK), 0
    with (folder / "diffusion_pytorch_model.safetensors").open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            size += count
    return size


def read_tensors(folder: Path, dtype: torch.dtype) -> None:
    read_network(folder, dtype)


def read_and_inflate(folder: Path, dtype: torch.dtype) -> None:
    inflate(read_network(folder, dtype))


def peak_of_loading(folder: Path, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes resident before and at the peak, in a process of its own."""
    before = harness.resident()
    read_and_inflate(folder, dtype)
    return before, harness.peak_resident()


def main() -> None:
    parser = harness.parser(__doc__)
    parser.set_defaults(dtype="float16", rounds=3)
    args = parser.parse_args()
    case = Case(dtype=getattr(torch, args.dtype), tiny=args.tiny)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "unet"
        case.unet().save_pretrained(folder)
        harness.drawn_weights.cache_clear()
        size = read_bytes(folder)
        runs = {
            "bytes of the file": lambda: read_bytes(folder),
            "tensors": lambda: read_tensors(folder, case.dtype),
            "tensors, inflated": lambda: read_and_inflate(folder, case.dtype),
        }
        seconds = harness.interleaved(runs, args.rounds, "cpu")
        from benchmarks import cold  # under the name by which another process finds it, however this one began

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            before, peak = pool.apply(cold.peak_of_loading, (folder, case.dtype))
    least = seconds["bytes of the file"]
    print(harness.machine())
    print(f"file {size / 2**20:.0f} MiB; peak of loading and inflating {(peak - before) / 2**20:.0f} MiB")
    rows = [[name, f"{spent:.2f}", f"{spent / least:.2f}"] for name, spent in seconds.items()]
    print(harness.table(["read", "seconds", "against the bytes"], rows))


if __name__ == "__main__":
    main()
