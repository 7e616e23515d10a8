"""Frames in and out of the batch: the geometry that lets an image model read a clip.

A clip is a tensor (b, c, f, h, w). The convolutions of an image model treat every frame alone (the "1x3x3" kernels of
arXiv:2212.11565, section 3.2), which is the same as moving the frames into the batch: (b f) c h w, frame index fastest.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

SELECTIVE = "selective"  # between False and True, gradient checkpointing of what costs little time (`recompute.py`)


@dataclass
class ClipState:
    """What all inflated modules of a model must know of the clip that is in it right now. They share one object.

    Attributes:
        num_frames: written by `VideoUNet.forward` alone, on entry.
        checkpointing: the level of gradient checkpointing; set while tuning runs, by `tune` alone.
    """

    num_frames: int = 1
    checkpointing: bool | str = False


def fold_frames(clip: Tensor) -> Tensor:
    """Move frames into the batch: (b, c, f, h, w) -> (b f, c, h, w)."""
    return rearrange(clip, "b c f h w -> (b f) c h w")


def unfold_frames(images: Tensor, num_frames: int) -> Tensor:
    """Take frames out of the batch: (b f, c, h, w) -> (b, c, f, h, w)."""
    return rearrange(images, "(b f) c h w -> b c f h w", f=num_frames)


class ClipGroupNorm(nn.GroupNorm):
    """GroupNorm whose statistics pool all frames of a clip, over folded images (b f, c, h, w).

    The published resnets normalise a 5-D tensor, so mean and variance are taken over (c / groups, f, h, w). It takes
    the affine parameters of the norm that it replaces: state-dict keys stay.
    """

    def __init__(self, norm: nn.GroupNorm, clip: ClipState):
        # Affine parameters are adopted, not made: affine=False allocates none.
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, affine=False)
        self.affine = norm.affine
        self.weight = norm.weight
        self.bias = norm.bias
        self.clip = clip

    def forward(self, images: Tensor) -> Tensor:
        return fold_frames(super().forward(unfold_frames(images, self.clip.num_frames)))


def without_autocast(device: torch.device) -> AbstractContextManager:
    """No casts, whatever holds outside. Of a device that knows no autocast none is asked."""
    casts = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if casts else nullcontext()


def check_clip(latents: Tensor, channels: int) -> None:
    """Refuse what is no clip of latents.

    Arguments:
        latents: the tensor to check, to be (b, c, f, h, w) with at least one frame.
        channels: the number of latent channels c that the model takes.

    Raises:
        ValueError: if the shape is another one.
    """
    if latents.ndim != 5:
        raise ValueError(
            f"Latents of a clip have 5 dimensions (batch, channels, frames, height, width), got {latents.ndim} "
            f"with shape {tuple(latents.shape)}. Stack the frames of one clip along dimension 2."
        )
    if 0 in latents.shape:
        raise ValueError(
            f"A clip has at least one frame and one pixel, got latents of shape {tuple(latents.shape)} "
            "(batch, channels, frames, height, width). Check what the video reader returned."
        )
    if latents.shape[1] != channels:
        raise ValueError(
            f"This model takes latents of {channels} channels, got {latents.shape[1]} in shape {tuple(latents.shape)}. "
            "Channels are dimension 1 and frames dimension 2; encode with this model's own VAE."
        )


def check_embeddings(encoder_hidden_states: Tensor, batch: int, width: int) -> None:
    """Refuse text embeddings that do not belong to the clip or to the model.

    Arguments:
        encoder_hidden_states: the tensor to check, to be (b, n, d): one prompt for each clip, not for each frame.
        batch: the number of clips b.
        width: the embedding width d that the model's cross-attention takes.

    Raises:
        ValueError: if the shape is another one.
    """
    shape = tuple(encoder_hidden_states.shape)
    if len(shape) != 3:
        raise ValueError(f"Text embeddings are (batch, tokens, width), got {len(shape)} dimensions with shape {shape}.")
    if shape[0] != batch:
        raise ValueError(
            f"Text embeddings have batch {shape[0]} and the latents {batch}: give one prompt for each clip "
            "(not one for each frame)."
        )
    if shape[1] == 0:
        raise ValueError(f"Text embeddings hold no token, in shape {shape}: the empty prompt has some too; encode it.")
    if shape[2] != width:
        raise ValueError(
            f"This model takes text embeddings of width {width}, got {shape[2]} in shape {shape}. "
            "Encode the prompt with the text encoder that belongs to this model."
        )


def refuse_non_finite(result: Tensor, step: str) -> None:
    """Stop where a step came to NaN or infinity, which all later steps would keep.

    Raises:
        FloatingPointError: with the name of the step and the remedy.
    """
    if not torch.isfinite(result).all():
        raise FloatingPointError(
            f"{step} came to numbers that are not finite. Compute in bfloat16 or float32 instead of float16; "
            "if it does, tune again with a lower learning_rate, or lower guidance_scale."
        )


def model_float32(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor as float32 on `device`, the type in which latents are kept between two steps."""
    return tensor.to(device=device, dtype=torch.float32)
