"""How much memory an inflated model needs beside its weights, and what to lower where there was too little.

The host unloads other models by this estimate before ours runs: too low ends in an out-of-memory error, too high in
models that are loaded again without need.
"""

import comfy.model_management as host
from torch import Tensor

from ...tav_core import VideoUNet, trainable_parameters

# One pass forward, in bytes for each latent pixel and each byte of its type: what the host reckons for one image of
# a batch of a Stable Diffusion 1 or 2 model (comfy.model_base.BaseModel.memory_required).
FORWARD_BYTES = 0.01 * 2**20
# What a tuning step keeps for the way back, in passes forward: every block's activations, or those between blocks and
# within one of them. Both are chosen, not measured.
STORED_PASSES, CHECKPOINTED_PASSES = 6, 2
# For each weight that trains: its gradient and the two moments of AdamW, float32.
BYTES_PER_TRAINED_WEIGHT = 3 * 4
PIXELS_PER_LATENT = 8
# What to try after an out-of-memory error, as a share of what was too much; sizes stay multiples of 64 pixels.
FEWER_FRAMES, SMALLER_SIDES, SIDE_STEP = 2 / 3, 3 / 4, 64


def estimate(video_unet: VideoUNet, clip: Tensor, tuning: bool, checkpointing: bool) -> float:
    """Bytes that a step needs beside the weights.

    Arguments:
        clip: latents (b, c, f, h, w).
        tuning, checkpointing: whether the model trains, and keeps fewer activations.
    """
    latent_pixels = clip.numel() / clip.shape[1]
    forward = latent_pixels * host.dtype_size(video_unet.dtype) * FORWARD_BYTES
    if not tuning:
        return forward
    trained = sum(parameter.numel() for parameter in trainable_parameters(video_unet).values())
    passes = CHECKPOINTED_PASSES if checkpointing else STORED_PASSES
    return forward * passes + trained * BYTES_PER_TRAINED_WEIGHT


def advice(clip: Tensor, tuning: bool, checkpointing: bool) -> str:
    """What to lower and to what after running out of memory; arguments as for `estimate`."""
    frames, height, width = clip.shape[2], clip.shape[3] * PIXELS_PER_LATENT, clip.shape[4] * PIXELS_PER_LATENT
    remedies = []
    if tuning and not checkpointing:
        remedies.append("turn on gradient_checkpointing")
    if frames > 1:
        remedies.append(f"set num_frames of Load Clip to {max(1, int(frames * FEWER_FRAMES))}")
    smaller_width, smaller_height = _smaller(width), _smaller(height)
    if (smaller_width, smaller_height) != (width, height):
        remedies.append(f"set its width and height to {smaller_width} x {smaller_height}")
    doing = "tuning on" if tuning else "running the model on"
    said = "; then ".join(remedies) or "close other programs that use the GPU"
    return f"Out of memory while {doing} {frames} frames of {width} x {height} pixels. First {said}."


def _smaller(side: int) -> int:
    return min(side, max(SIDE_STEP, int(side * SMALLER_SIDES) // SIDE_STEP * SIDE_STEP))
