"""What all benchmarks share: the kinds of steps that are measured, fair timing, peaks of memory, and editors.

Speed is always measured beside a baseline in the same run: the stock image UNet of diffusers on the same frames as a
batch. Rounds are interleaved (A B A B ..), so that a machine that slows down slows both, and medians are compared. On
the CPU the seconds are those of the process, not of the clock, so that other work on the machine counts for little;
with one thread (OMP_NUM_THREADS=1) the two agree on an idle machine.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import TypeAlias, TypeVar

import torch

from tav_core import ClipEditor, SamplingConfig, Store, TuningConfig, load_model, read_video
from tav_core.demo.clip import bundled_clip
from tav_core.models.base import ASSETS

Config: TypeAlias = SamplingConfig | TuningConfig
Step = TypeVar("Step")
SAMPLING, TUNING, CHECKPOINTING = "sampling", "tuning", "tuning, checkpointing"
SELECTIVE = "tuning, selective checkpointing"
KINDS: dict[str, Config] = {  # of steps, all of them measured
    SAMPLING: SamplingConfig(),
    TUNING: TuningConfig(),
    SELECTIVE: TuningConfig(gradient_checkpointing="selective"),
    CHECKPOINTING: TuningConfig(gradient_checkpointing=True),
}


def parser(part: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of a part's options.

    Arguments:
        part: its module's `__name__`.
        description: its module's docstring.
    """
    prog = f"python -m {part.replace('.', ' ')}"
    return argparse.ArgumentParser(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def interleaved(
    runs: dict[str, Callable[[], object]], rounds: int, device: str, warm: bool = False
) -> dict[str, float]:
    """Median seconds of each, after one round to warm up where they are not `warm` already.

    A run in another process returns the seconds that it took there.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    clock = time.perf_counter if is_cuda(device) else time.process_time
    for index in range(warm, rounds + 1):
        for name, run in runs.items():
            began = clock()
            elsewhere = run()
            finish(device)
            if index:
                times[name].append(elsewhere if isinstance(elsewhere, float) else clock() - began)
    return {name: median(spent) for name, spent in times.items()}


def seconds_of(run: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one run by the clock."""
    finish(device)
    began = time.perf_counter()
    run()
    finish(device)
    return time.perf_counter() - began


def is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"


def finish(device: str) -> None:
    """Wait until a GPU has done its work."""
    if is_cuda(device):
        torch.cuda.synchronize(device)


def resident() -> float:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak_resident() -> float:
    """The most that was resident, in bytes, since the process began or since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def machine(device: str = "cpu") -> str:
    """One line on what was measured on."""
    name = torch.cuda.get_device_name(device) if is_cuda(device) else processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def processor() -> str:
    """The CPU's name, from the system where it has one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or "CPU"


def bundled_editor(num_frames: int, store: Store | None = None) -> ClipEditor:
    """The bundled model on frames of the bundled clip."""
    clip = read_video(ASSETS / "demo-clip.mp4", num_frames=num_frames)
    return ClipEditor(load_model(), clip.frames, bundled_clip().caption, store=store)


def last(steps: Iterable[Step]) -> Step | None:
    """Run all steps; returns the last, or None where there is none."""
    taken = deque(steps, maxlen=1)
    return taken[0] if taken else None
