"""What a plan means for the device at hand: whether a step fits into its memory, and how many frames would."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import psutil
import torch
from torch import Tensor

from ..editing.sampling import SamplingConfig
from ..tuning.config import CHECKPOINTING, TuningConfig
from ..unet.inflate import VideoUNet
from .estimate import OVERHEAD, frames_that_fit, plan

FEWER_FRAMES = 2 / 3  # to try after an out-of-memory error, as a share of what was too much
OUT_OF_MEMORY = (  # what errors without a type of their own say
    "out of memory",  # Apple's GPUs, drivers
    "allocate memory",  # the CPU's allocator
    "not enough memory",  # likewise, on Windows
    "Invalid buffer size",  # Metal
    "_ALLOC_FAILED",  # cuBLAS and cuDNN, when they are set up
    "unable to find an engine",  # cuDNN, for whose convolutions no workspace was to be had
)


def checkpointing_within(video_unet: VideoUNet, latents: Tensor, config: TuningConfig, room: float) -> bool | str:
    """The fastest `gradient_checkpointing` with which a step takes no more than so many bytes beside the weights.

    Arguments:
        video_unet: the model.
        latents: the clip, (1, c, f, h, w).
        config: how to tune; its own `gradient_checkpointing` does not count.
        room: bytes.

    Returns:
        False, "selective" or True, which is also where nothing fits.
    """
    *faster, smallest = (replace(config, gradient_checkpointing=level) for level in CHECKPOINTING.values())
    fitting = (c for c in faster if plan(video_unet, c, **clip_size(latents)).beside_weights <= room)
    return next(fitting, smallest).gradient_checkpointing


def frames_within(video_unet: VideoUNet, latents: Tensor, config: TuningConfig | SamplingConfig, memory: float) -> int:
    """The most frames of a clip with which a step stays within so many bytes, tuning with checkpointing; 0 if none.

    Arguments:
        video_unet, latents: as `checkpointing_within` takes them.
        config: whose step it is.
        memory: bytes, for the weights and all else.
    """
    if isinstance(config, TuningConfig):
        config = replace(config, gradient_checkpointing=True)
    return frames_that_fit(video_unet, config, memory / OVERHEAD, **clip_size(latents))


def device_memory(device: torch.device) -> tuple[float, float]:
    """Bytes that can be had of a device's memory, and all of them; without limit where nothing tells."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total
    if device.type in ("cpu", "mps"):  # Apple's GPUs work in the memory of the machine
        memory = psutil.virtual_memory()
        return memory.available, memory.total
    return inf, inf


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error is, or is most likely, that of a device's memory that is full."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def clip_size(latents: Tensor) -> dict[str, Any]:
    """The size of a clip's latents (1, c, f, h, w) as `plan` takes it."""
    return dict(zip(("num_frames", "height", "width"), latents.shape[2:], strict=True))
