"""What the benchmarks of time and memory share: a full-size UNet with made-up weights, fair timing, peaks, tables.

The baseline is always measured in the same run: the stock image UNet of diffusers on the same frames as a batch.
Rounds are interleaved (A B A B ..), so that a machine that slows down slows both, and medians are compared. On the CPU
the seconds are those of the process, not of the clock, so that other work beside counts for little; with one thread
(OMP_NUM_THREADS=1) the two agree on an idle machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging

from tav_core import SamplingConfig, TuningConfig, VideoUNet, inflate, tune
from tav_core.diffusion.guidance import ONE_BATCH_PIXELS
from tav_core.editing.sampling import guided_prediction

logging.set_verbosity_error()  # a cast to half precision warns, though nothing is to be kept in float32
SCHEDULER = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SD15: dict[str, Any] = dict(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # of freed memory, by glibc
Config: TypeAlias = SamplingConfig | TuningConfig
SAMPLING, TUNING, CHECKPOINTING = "sampling", "tuning", "tuning, checkpointing"
SELECTIVE = "tuning, selective checkpointing"
KINDS: dict[str, Config] = {  # of steps, all of them measured
    SAMPLING: SamplingConfig(),
    TUNING: TuningConfig(),
    SELECTIVE: TuningConfig(gradient_checkpointing="selective"),
    CHECKPOINTING: TuningConfig(gradient_checkpointing=True),
}
TINY = dict(block_out_channels=(32, 64, 64, 64), cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8)


@dataclass(frozen=True)
class Case:
    """One size to measure at. latent: height and width of the latents. tiny: a small UNet, to try the benchmark."""

    frames: int = 4
    latent: int = 32
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    tiny: bool = False

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.frames} frames of {self.latent}x{self.latent}, {kind}, {self.device}"

    def unet(self) -> UNet2DConditionModel:
        """Stable Diffusion 1.5's shape, made-up weights. All UNets of one type lie on the same weights."""
        unet = shape(self.tiny)
        unet.load_state_dict(drawn_weights(self.tiny, self.dtype, self.device), assign=True)
        return unet.eval()

    def inputs(self, unet: UNet2DConditionModel) -> tuple[torch.Tensor, torch.Tensor]:
        """A clip's latents (1, 4, f, h, w), float32, and a prompt's embedding (1, 77, d)."""
        generator = torch.Generator().manual_seed(1)
        latents = torch.randn(1, 4, self.frames, self.latent, self.latent, generator=generator)
        text = torch.randn(1, 77, unet.config.cross_attention_dim, generator=generator)
        return latents.to(self.device), text.to(self.device)


def shape(tiny: bool = False) -> UNet2DConditionModel:
    """Of Stable Diffusion 1.5, without weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(**(SD15 | TINY if tiny else SD15))


@lru_cache(maxsize=1)
def drawn_weights(tiny: bool, dtype: torch.dtype, device: str) -> dict[str, torch.Tensor]:
    """Weights by name, uniform as torch draws them, norms the identity."""
    generator, weights = torch.Generator(device).manual_seed(0), {}
    for name, parameter in shape(tiny).named_parameters():
        weight = torch.full(parameter.shape, 1.0 if name.endswith("weight") else 0.0, device=device)
        if weight.ndim > 1:
            weight.uniform_(-1, 1, generator=generator).mul_(weight[0].numel() ** -0.5)
        weights[name] = weight.to(dtype)
    return weights


def image_step(case: Case, config: Config) -> Callable[[], None]:
    """A step of the image UNet on the same frames as a batch, which knows no selective checkpointing."""
    if isinstance(config, SamplingConfig):
        return image_sampling_step(case)
    return image_tuning_step(case, config.gradient_checkpointing is True)


def video_step(case: Case, config: Config) -> Callable[[], None]:
    """A step of the inflated UNet."""
    if isinstance(config, SamplingConfig):
        return video_sampling_step(case)
    return video_tuning_step(case, config)


def image_sampling_step(case: Case) -> Callable[[], None]:
    """The floor: both prompts' frames through the image UNet, in one batch where the video UNet takes them so."""
    unet = case.unet()
    latents, text = case.inputs(unet)
    together = 2 if latents[:, 0].numel() <= ONE_BATCH_PIXELS else 1
    images = latents[0].transpose(0, 1).to(case.dtype).repeat(together, 1, 1, 1)
    words = text.to(case.dtype).repeat(together * case.frames, 1, 1)

    def step() -> None:
        with torch.no_grad():
            for _ in range(2 // together):
                unet(images, 500, words)

    return step


def video_sampling_step(case: Case, video_unet: VideoUNet | None = None) -> Callable[[], None]:
    """A guided prediction of the inflated UNet."""
    video_unet = video_unet or inflate(case.unet())
    latents, text = case.inputs(video_unet.unet)
    config = SamplingConfig()

    def step() -> None:
        with torch.no_grad():
            guided_prediction(video_unet, latents, 500, text, -text, config)

    return step


def image_tuning_step(case: Case, checkpointing: bool = False) -> Callable[[], None]:
    """The floor: one update of the image UNet's queries on the same frames as a batch."""
    unet = case.unet().requires_grad_(False)
    latents, text = case.inputs(unet)
    images = latents[0].transpose(0, 1).to(case.dtype)
    words = text.to(case.dtype).expand(case.frames, -1, -1)
    trained = [p for name, p in unet.named_parameters() if name.endswith((".attn1.to_q.weight", ".attn2.to_q.weight"))]
    for parameter in trained:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    if checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()  # diffusers checkpoints in this mode alone; it has no dropout
    optimizer = torch.optim.AdamW(trained, lr=1e-6)
    half = case.dtype != torch.float32

    def step() -> None:
        with torch.autocast(torch.device(case.device).type, dtype=case.dtype if half else None, enabled=half):
            loss = unet(images, 500, words).sample.float().square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def video_tuning_step(case: Case, config: TuningConfig) -> Callable[[], None]:
    """One update of all trained weights of the inflated UNet, as `tune` makes it."""
    video_unet = inflate(case.unet())
    latents, text = case.inputs(video_unet.unet)
    many = replace(config, steps=10_000, learning_rate=1e-6)
    steps = tune(video_unet, latents, text, SCHEDULER, many)
    return lambda: (next(steps), None)[1]


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


def is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"


def finish(device: str) -> None:
    """Wait for what a GPU has been asked to do."""
    if is_cuda(device):
        torch.cuda.synchronize(device)


def peak_memory(build: Callable[[Case, Config], Callable[[], None]], case: Case, config: Config) -> tuple[float, float]:
    """Bytes held before a step (weights and inputs) and at the peak of two steps, in a process of its own.

    On the CPU that process gives freed memory back at once: what is resident is then what is alive, and not what the
    C library keeps for later. A step of a small UNet goes before, which brings the kernels' code into memory.
    """
    os.environ |= GIVE_BACK
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (build, case, config))


def _peak(build: Callable[[Case, Config], Callable[[], None]], case: Case, config: Config) -> tuple[float, float]:
    build(replace(case, tiny=True, latent=16), config)()
    drawn_weights.cache_clear()
    step = build(case, config)
    if is_cuda(case.device):
        torch.cuda.reset_peak_memory_stats(case.device)
        before = torch.cuda.memory_allocated(case.device)
    else:
        forget_peak()
        before = resident()
    for _ in range(2):
        step()
    return before, torch.cuda.max_memory_allocated(case.device) if is_cuda(case.device) else peak_resident()


def resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak_resident() -> float:
    """The most that was resident, in bytes, since the process began or since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks take."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--frames", type=int, nargs="+", default=[4])
    made.add_argument("--latent", type=int, default=32, help="height and width of the latents; 64 is 512 pixels")
    made.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--tiny", action="store_true", help="a small UNet, to try the benchmark itself")
    return made


def cases(args: argparse.Namespace) -> list[Case]:
    base = Case(latent=args.latent, dtype=getattr(torch, args.dtype), device=args.device, tiny=args.tiny)
    return [replace(base, frames=frames) for frames in args.frames]


def machine(device: str = "cpu") -> str:
    """One line on what was measured on."""
    name = torch.cuda.get_device_name(device) if is_cuda(device) else processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def processor() -> str:
    """The CPU's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or "CPU"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])
