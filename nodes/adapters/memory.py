"""The memory that a step takes, the settings that fit the device, and what to lower where none do.

The host unloads other models by this estimate before ours runs: too low ends in an out-of-memory error, too high in
models that are reloaded without need.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import comfy.model_management as host
from torch import Tensor

from ... import tav_core
from ...tav_core import SamplingConfig, TuningConfig
from ...tav_core.checks import check_choice
from ...tav_core.tuning.config import CHECKPOINTING

AUTO = "auto"
CHECKPOINTING_CHOICES = (AUTO, *CHECKPOINTING)
CHECKPOINTING_KNOWN = (*CHECKPOINTING_CHOICES, True, False)  # True and False are in older workflows
PIXELS_PER_LATENT = 8
# What to try after an out-of-memory error, as a share of what was too much; sizes stay multiples of 64 pixels.
SMALLER_SIDES, SIDE_STEP = 3 / 4, 64

Config = TuningConfig | SamplingConfig


def checkpointing_that_fits(
    video_unet: tav_core.VideoUNet, clip: Tensor, config: TuningConfig, wanted: str | bool
) -> bool | str:
    """The `gradient_checkpointing` to tune with. It changes memory and time, and at most the rounding of the result.

    Arguments:
        clip: latents of all clips, (b, c, f, h, w).
        config: how to tune otherwise.
        wanted: one of CHECKPOINTING_KNOWN; "auto" is the fastest that fits the device.

    Raises:
        ValueError: `wanted` is something else.
    """
    from ...tav_core.memory.budget import checkpointing_within

    check_choice("gradient_checkpointing", wanted, CHECKPOINTING_KNOWN)
    if wanted != AUTO:
        return CHECKPOINTING.get(wanted, wanted)
    without = planned(video_unet, clip, replace(config, gradient_checkpointing=False))
    budget = memory_budget(without)
    chosen = replace(config, gradient_checkpointing=checkpointing_within(video_unet, clip, config, budget))
    needed, most = (made.without_weights / 2**30 for made in (planned(video_unet, clip, chosen), without))
    name = next(name for name, level in CHECKPOINTING.items() if level == chosen.gradient_checkpointing)
    logging.info(
        f"Tune-A-Video: gradient_checkpointing is {name}: {_described(clip, chosen)} takes about {needed:.1f} GiB "
        f"without the weights (off: {most:.1f}), and {max(budget, 0) / 2**30:.1f} GiB are free."
    )
    return chosen.gradient_checkpointing


def planned(video_unet: tav_core.VideoUNet, clip: Tensor, config: Config) -> tav_core.MemoryEstimate:
    """The memory of a step on latents (b, c, f, h, w), those of several clips where several are tuned on."""
    from ...tav_core.memory.budget import clip_size

    return tav_core.estimate_memory(video_unet, config, **clip_size(clip))


def memory_budget(needed: tav_core.MemoryEstimate) -> float:
    """Bytes for all but the weights that are free, or will be when the host has unloaded other models."""
    device = host.get_torch_device()
    free = host.get_free_memory(device) - host.extra_reserved_memory()
    if device.type in ("cpu", "mps"):  # weights are in the same memory, loaded or not
        return free
    patchers = [loaded.model for loaded in host.current_loaded_models if loaded.device == device]
    alive = [patcher for patcher in patchers if patcher is not None]  # others wait to be collected
    return free + sum(patcher.loaded_size() for patcher in alive) - needed.weights


def warn_if_too_large(video_unet: tav_core.VideoUNet, clip: Tensor, config: Config) -> None:
    """Log a warning where a step cannot fit the device's memory, with the number of frames that would."""
    needed = planned(video_unet, clip, config)
    memory, total = host.get_total_memory(host.get_torch_device()), needed.weights + needed.without_weights
    if total <= memory:
        return
    remedies = _remedies(video_unet, clip, config, clip.shape[2])
    logging.warning(
        f"Tune-A-Video: {_described(clip, config)} takes about {total / 2**30:.1f} GiB, and the device has "
        f"{memory / 2**30:.1f}. First {remedies}."
    )


def advice(video_unet: tav_core.VideoUNet, clip: Tensor, config: Config) -> str:
    """What to lower and to what after running out of memory."""
    from ...tav_core.memory.budget import FEWER_FRAMES

    fewer = max(1, int(clip.shape[2] * FEWER_FRAMES))
    remedies = _remedies(video_unet, clip, config, fewer)
    return f"Out of memory while {_described(clip, config)}. First {remedies}."


def _described(clip: Tensor, config: Config) -> str:
    width, height = _pixels(clip)
    what = "tuning" if isinstance(config, TuningConfig) else "running the model"
    several = f"{len(clip)} clips of " if len(clip) > 1 else ""
    return f"{what} on {several}{clip.shape[2]} frames of {width} x {height} pixels"


def _remedies(video_unet: tav_core.VideoUNet, clip: Tensor, config: Config, most: int) -> str:
    """What to try, in this order: at most so many frames, and no more than fit the device's whole memory."""
    from ...tav_core.memory.budget import frames_within

    fewer = min(most, frames_within(video_unet, clip, config, host.get_total_memory(host.get_torch_device())))
    remedies = []
    if isinstance(config, TuningConfig) and config.gradient_checkpointing is not True:
        remedies.append("set gradient_checkpointing to on")
    if 0 < fewer < clip.shape[2]:  # 0: none fit, by estimate
        remedies.append(f"set frame_load_cap of Load Clip to {fewer}")
    width, height = map(_smaller, _pixels(clip))
    if (width, height) != _pixels(clip):
        remedies.append(f"set its custom_width and custom_height to {width} x {height}")
    return "; then ".join(remedies) or "close other programs that use the GPU"


def _pixels(clip: Tensor) -> tuple[int, int]:
    """Width and height of a clip's frames."""
    return clip.shape[4] * PIXELS_PER_LATENT, clip.shape[3] * PIXELS_PER_LATENT


def _smaller(side: int) -> int:
    return min(side, max(SIDE_STEP, int(side * SMALLER_SIDES) // SIDE_STEP * SIDE_STEP))
