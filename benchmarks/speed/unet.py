"""A UNet of Stable Diffusion 1.5's shape with made-up weights, its steps, and those of its inflated twin."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Config, forget_peak, is_cuda, peak_resident, resident
from tav_core import MemoryEstimate, SamplingConfig, TuningConfig, VideoUNet, estimate_memory, inflate, tune
from tav_core.diffusion.guidance import ONE_BATCH_PIXELS
from tav_core.editing.sampling import guided_denoiser

logging.set_verbosity_error()  # a cast to half precision warns, though no weight has to stay in float32
SCHEDULER = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SD15: dict[str, Any] = dict(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
TINY = dict(block_out_channels=(32, 64, 64, 64), cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8)
TIMESTEP = 500  # any
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # of freed memory, by glibc
Run: TypeAlias = Callable[[], None]


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
        """Stable Diffusion 1.5's shape, made-up weights. All UNets of one type share the same weights."""
        unet = shape(self.tiny)
        unet.load_state_dict(drawn_weights(self.tiny, self.dtype, self.device), assign=True)
        return unet.eval()

    def inputs(self, unet: UNet2DConditionModel) -> tuple[Tensor, Tensor]:
        """A clip's latents (1, 4, f, h, w), float32, and a prompt's embedding (1, 77, d)."""
        generator = torch.Generator().manual_seed(1)
        latents = torch.randn(1, 4, self.frames, self.latent, self.latent, generator=generator)
        text = torch.randn(1, 77, unet.config.cross_attention_dim, generator=generator)
        return latents.to(self.device), text.to(self.device)

    def images(self, unet: UNet2DConditionModel) -> tuple[Tensor, Tensor]:
        """The same for an image UNet, in the case's type: frames as a batch (f, 4, h, w), the prompt (f, 77, d)."""
        latents, text = self.inputs(unet)
        return latents[0].transpose(0, 1).to(self.dtype), text.to(self.dtype).expand(self.frames, -1, -1)

    def estimate(self, config: Config) -> MemoryEstimate:
        """Of a step. It reads no weights, so there are none, and none are on the case's device."""
        size = dict(num_frames=self.frames, height=self.latent, width=self.latent)
        return estimate_memory(without_weights(self.tiny), config, **size, dtype=self.dtype)


def shape(tiny: bool = False) -> UNet2DConditionModel:
    """Of Stable Diffusion 1.5, without weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(**(SD15 | TINY if tiny else SD15))


@lru_cache(maxsize=1)
def without_weights(tiny: bool) -> VideoUNet:
    """The inflated twin, on the CPU, with weights that are not set and take no memory."""
    return inflate(shape(tiny).to_empty(device="cpu"))


@lru_cache(maxsize=1)
def drawn_weights(tiny: bool, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Weights by name, uniform as torch draws them, norms the identity."""
    generator, weights = torch.Generator(device).manual_seed(0), {}
    for name, parameter in shape(tiny).named_parameters():
        weight = torch.full(parameter.shape, 1.0 if name.endswith("weight") else 0.0, device=device)
        if weight.ndim > 1:
            weight.uniform_(-1, 1, generator=generator).mul_(weight[0].numel() ** -0.5)
        weights[name] = weight.to(dtype)
    return weights


def image_step(case: Case, config: Config) -> Run:
    """A step of the image UNet on the same frames as a batch. It has no selective checkpointing."""
    if isinstance(config, SamplingConfig):
        return image_sampling_step(case)
    return image_tuning_step(case, config.gradient_checkpointing is True)


def video_step(case: Case, config: Config) -> Run:
    """A step of the inflated UNet."""
    if isinstance(config, SamplingConfig):
        return video_sampling_step(case)
    return video_tuning_step(case, config)


def image_sampling_step(case: Case) -> Run:
    """The floor: both prompts' frames through the image UNet, in one batch where the video UNet takes them so."""
    unet = case.unet()
    latents, _ = case.inputs(unet)
    together = 2 if latents[:, 0].numel() <= ONE_BATCH_PIXELS else 1
    images, text = (tensor.repeat(together, *[1] * (tensor.ndim - 1)) for tensor in case.images(unet))

    def step() -> None:
        with torch.no_grad():
            for _ in range(2 // together):
                unet(images, TIMESTEP, text)

    return step


def video_sampling_step(case: Case, video_unet: VideoUNet | None = None) -> Run:
    """A guided prediction of the inflated UNet."""
    video_unet = inflate(case.unet()) if video_unet is None else video_unet  # a compiled one has no truth value
    latents, text = case.inputs(video_unet.unet)
    denoiser = guided_denoiser(video_unet, text, -text, SCHEDULER, SamplingConfig())

    def step() -> None:
        with torch.no_grad():
            denoiser(latents, TIMESTEP)

    return step


def image_tuning_step(case: Case, checkpointing: bool = False) -> Run:
    """The floor: one update of the image UNet's queries on the same frames as a batch."""
    unet = case.unet().requires_grad_(False)
    images, text = case.images(unet)
    trained = _train_queries(unet)
    if checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()  # diffusers checkpoints in this mode alone; it has no dropout
    optimizer = torch.optim.AdamW(trained, lr=1e-6)
    half = case.dtype != torch.float32

    def step() -> None:
        with torch.autocast(torch.device(case.device).type, dtype=case.dtype if half else None, enabled=half):
            loss = unet(images, TIMESTEP, text).sample.float().square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _train_queries(unet: UNet2DConditionModel) -> list[torch.nn.Parameter]:
    """The image UNet's queries, which train in float32."""
    queries = (".attn1.to_q.weight", ".attn2.to_q.weight")
    trained = [parameter for name, parameter in unet.named_parameters() if name.endswith(queries)]
    for parameter in trained:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return trained


def video_tuning_step(case: Case, config: TuningConfig, video_unet: VideoUNet | None = None) -> Run:
    """One update of all trained weights of the inflated UNet, as `tune` makes it."""
    video_unet = inflate(case.unet()) if video_unet is None else video_unet  # a compiled one has no truth value
    latents, text = case.inputs(video_unet.unet)
    many = replace(config, steps=10_000, learning_rate=1e-6)
    steps = tune(video_unet, latents, text, SCHEDULER, many)
    return lambda: (next(steps), None)[1]


def peak_memory(build: Callable[[Case, Config], Run], case: Case, config: Config) -> tuple[float, float]:
    """Bytes held before a step (weights and inputs) and at the peak of two steps, in a process of its own.

    On the CPU that process returns freed memory to the system at once: what is resident is then what is alive, and not
    what the C library holds for later. A step of a small UNet goes before, which loads the kernels' code into memory.
    """
    os.environ |= GIVE_BACK
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_here, (build, case, config))


def warm_up(build: Callable[[Case, Config], Run], case: Case, config: Config) -> None:
    """Load the kernels' code into memory by a step of a small UNet."""
    build(replace(case, tiny=True, latent=16), config)()
    drawn_weights.cache_clear()


def peak_here(build: Callable[[Case, Config], Run], case: Case, config: Config) -> tuple[float, float]:
    """The same in this process, as is enough on a GPU, where only tensors count."""
    warm_up(build, case, config)
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


def parser(part: str, description: str | None) -> argparse.ArgumentParser:
    """The options of a size to measure at."""
    made = harness.parser(part, description)
    made.add_argument("--frames", type=int, nargs="+", default=[4])
    made.add_argument("--latent", type=int, default=32, help="height and width of the latents; 64 is 512 pixels")
    made.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--tiny", action="store_true", help="a small UNet, to try the benchmark itself")
    return made


def cases(args: argparse.Namespace) -> list[Case]:
    base = Case(latent=args.latent, dtype=getattr(torch, args.dtype), device=args.device, tiny=args.tiny)
    return [replace(base, frames=frames) for frames in args.frames]
