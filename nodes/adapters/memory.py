"""How much memory a step needs, by the planner, and what to lower where there is too little.

The host unloads other models by this estimate before ours runs: too low ends in an out-of-memory error, too high in
models that are loaded again without need.
"""

import logging

import comfy.model_management as host
from torch import Tensor

from ...tav_core import Plan, SamplingConfig, TuningConfig, VideoUNet, frames_that_fit, plan

# What kernels and the allocator take beside the tensors that the planner counts. Chosen, not measured.
OVERHEAD = 1.15
PIXELS_PER_LATENT = 8
# What to try after an out-of-memory error, as a share of what was too much; sizes stay multiples of 64 pixels.
FEWER_FRAMES, SMALLER_SIDES, SIDE_STEP = 2 / 3, 3 / 4, 64


def planned(video_unet: VideoUNet, clip: Tensor, tuning: bool, checkpointing: bool) -> Plan:
    """What a step needs.

    Arguments:
        clip: latents (1, c, f, h, w).
        tuning, checkpointing: whether the model trains, and keeps fewer activations.
    """
    frames, height, width = clip.shape[2:]
    return plan(video_unet, _config(tuning, checkpointing), num_frames=frames, height=height, width=width)


def estimate(needed: Plan) -> float:
    """Bytes to keep free beside the weights."""
    return OVERHEAD * (needed.moments + needed.activations)


def warn_if_too_large(video_unet: VideoUNet, needed: Plan, clip: Tensor, tuning: bool, checkpointing: bool) -> None:
    """Say in the log that a step cannot fit into the device's memory, and how many frames would."""
    memory, total = host.get_total_memory(host.get_torch_device()), needed.weights + estimate(needed)
    if total <= memory:
        return
    frames, height, width = clip.shape[2:]
    config, size = _config(tuning, checkpointing=True), dict(num_frames=frames, height=height, width=width)
    fitting = frames_that_fit(video_unet, config, memory / OVERHEAD, **size)
    logging.warning(
        f"Tune-A-Video: {_described(clip, tuning)} takes about {total / 2**30:.1f} GiB, and the device has "
        f"{memory / 2**30:.1f}. First {_remedies(clip, tuning, checkpointing, fitting)}."
    )


def advice(clip: Tensor, tuning: bool, checkpointing: bool) -> str:
    """What to lower and to what after running out of memory; arguments as for `planned`."""
    fewer = max(1, int(clip.shape[2] * FEWER_FRAMES))
    remedies = _remedies(clip, tuning, checkpointing, fewer)
    return f"Out of memory while {_described(clip, tuning)}. First {remedies}."


def _config(tuning: bool, checkpointing: bool) -> TuningConfig | SamplingConfig:
    return TuningConfig(gradient_checkpointing=checkpointing) if tuning else SamplingConfig()


def _described(clip: Tensor, tuning: bool) -> str:
    frames, height, width = clip.shape[2], clip.shape[3] * PIXELS_PER_LATENT, clip.shape[4] * PIXELS_PER_LATENT
    return f"{'tuning on' if tuning else 'running the model on'} {frames} frames of {width} x {height} pixels"


def _remedies(clip: Tensor, tuning: bool, checkpointing: bool, fewer: int) -> str:
    """What to try, in this order. `fewer`: frames that will do with checkpointing, as far as is known; 0 if none."""
    frames, height, width = clip.shape[2], clip.shape[3] * PIXELS_PER_LATENT, clip.shape[4] * PIXELS_PER_LATENT
    remedies = []
    if tuning and not checkpointing:
        remedies.append("turn on gradient_checkpointing")
    if 0 < fewer < frames:
        remedies.append(f"set num_frames of Load Clip to {fewer}")
    smaller_width, smaller_height = _smaller(width), _smaller(height)
    if (smaller_width, smaller_height) != (width, height):
        remedies.append(f"set its width and height to {smaller_width} x {smaller_height}")
    return "; then ".join(remedies) or "close other programs that use the GPU"


def _smaller(side: int) -> int:
    return min(side, max(SIDE_STEP, int(side * SMALLER_SIDES) // SIDE_STEP * SIDE_STEP))
