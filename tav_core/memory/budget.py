"""The memory budget of a device: which settings and how many frames fit it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor

from ..editing.config import SamplingConfig
from ..tuning.config import CHECKPOINTING, TuningConfig
from ..tuning.objective import Objective
from ..unet.video_unet import VideoUNet
from .estimate import OVERHEAD, estimate_memory, frames_that_fit

if TYPE_CHECKING:
    from ..models.control import HintControl

FEWER_FRAMES = 2 / 3  # to try after an out-of-memory error, as a share of what was too much
OUT_OF_MEMORY = (  # in the messages of errors without a type of their own
    "out of memory",  # Apple's GPUs, drivers
    "allocate memory",  # the CPU's allocator
    "not enough memory",  # likewise, on Windows
    "Invalid buffer size",  # Metal
    "_ALLOC_FAILED",  # cuBLAS and cuDNN, when they are set up
    "unable to find an engine",  # cuDNN, without memory for a convolution's workspace
)


def checkpointing_within(
    video_unet: VideoUNet,
    latents: Tensor,
    config: TuningConfig,
    budget: float,
    controls: Sequence[HintControl] = (),
    *,
    objective: Objective | None = None,
) -> bool | str:
    """The fastest `gradient_checkpointing` with which a step stays within the budget.

    Arguments:
        video_unet: the model.
        latents: the clip or several, (b, c, f, h, w).
        config: how to tune; its own `gradient_checkpointing` is ignored.
        budget: bytes, without the weights.
        controls: what acts beside the caption.
        objective: the loss of tuning; None for that of the config.

    Returns:
        False, "selective" or True; also True if nothing fits.
    """
    *faster, smallest = (replace(config, gradient_checkpointing=level) for level in CHECKPOINTING.values())
    size = clip_size(latents) | {"objective": objective, "controls": controls}
    fitting = (c for c in faster if estimate_memory(video_unet, c, **size).without_weights <= budget)
    return next(fitting, smallest).gradient_checkpointing


def frames_within(
    video_unet: VideoUNet,
    latents: Tensor,
    config: TuningConfig | SamplingConfig,
    memory: float,
    controls: Sequence[HintControl] = (),
) -> int:
    """The most frames of a clip with which a step stays within the memory, tuning with checkpointing; 0 if none.

    Arguments:
        video_unet, latents: as `checkpointing_within` takes them.
        config: of tuning or sampling.
        memory: bytes, weights included.
        controls: what acts beside the prompts.
    """
    if isinstance(config, TuningConfig):
        config = replace(config, gradient_checkpointing=True)
    return frames_that_fit(video_unet, config, memory / OVERHEAD, **clip_size(latents), controls=controls)


def device_memory(device: torch.device) -> tuple[float, float]:
    """Free and total bytes of a device's memory; infinite if they cannot be queried."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total
    if device.type in ("cpu", "mps"):  # Apple's GPUs use the main memory
        memory = psutil.virtual_memory()
        return memory.available, memory.total
    return inf, inf


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error means, at least most likely, that the device is out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def clip_size(latents: Tensor) -> dict[str, Any]:
    """The size of latents (b, c, f, h, w) as `estimate_memory` takes it."""
    num_clips, _, *size = latents.shape
    return dict(zip(("num_clips", "num_frames", "height", "width"), (num_clips, *size), strict=True))


def peak_memory(device: torch.device) -> int:
    """Peak bytes so far: of tensors on a GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    process = psutil.Process().memory_info()
    if hasattr(process, "peak_wset"):  # Windows
        return int(process.peak_wset)
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def out_of_memory_advice(
    video_unet: VideoUNet,
    latents: Tensor,
    frames: Tensor,
    config: TuningConfig | SamplingConfig,
    controls: Sequence[HintControl] = (),
) -> str:
    """The message of an out-of-memory error: the clip's size, and which options to lower to what.

    Arguments:
        video_unet: the model.
        latents: the clip, (1, c, f, h, w).
        frames: its pixels, (f, height, width, 3).
        config: of the stage that ran out of memory.
        controls: what acts beside the prompts.
    """
    count, height, width, _ = frames.shape
    _, total = device_memory(video_unet.device)
    fewer = min(int(count * FEWER_FRAMES), frames_within(video_unet, latents, config, total, controls))
    recomputable = isinstance(config, TuningConfig) and config.gradient_checkpointing is not True
    remedies = ["--gradient-checkpointing on"] if recomputable else []
    remedies += [f"--num-frames {fewer}"] if fewer else []
    remedies += ["--dtype float16"] if video_unet.dtype == torch.float32 else []
    return (
        f"Out of memory on {count} frames of {width} x {height} pixels. "
        f"Give {', or '.join([*remedies, 'a smaller --width and --height'])}."
    )
