"""Frames in and out of the batch: the geometry that lets an image model read a clip.

A clip is a tensor (b, c, f, h, w). The convolutions of an image model treat every frame alone (the "1x3x3" kernels of
arXiv:2212.11565, section 3.2), which is the same as moving the frames into the batch: (b f) c h w, frame index fastest.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

SELECTIVE = "selective"  # between False and True, gradient checkpointing of what costs little time (`checkpointing.py`)


@dataclass
class FrameContext:
    """The clip that the model is running on, as its inflated modules need it. They share one object.

    Attributes:
        num_frames: 1 but during a call of VideoUNet, so that the inner UNet called by itself takes images.
        checkpointing: the level of gradient checkpointing; set while tuning runs, by `tune` alone.
        control: an AttentionControl (`attention.py`); set by `VideoUNet.controlled` alone.
        timesteps: of each clip, (b,), and size: height and width of the latents; for the control, during a call.
    """

    num_frames: int = 1
    checkpointing: bool | str = False
    control: Callable[..., Tensor] | None = None
    timesteps: torch.Tensor | None = None
    size: tuple[int, int] = (0, 0)

    @contextmanager
    def counting(self, num_frames: int) -> Iterator[None]:
        """Run on clips of so many frames, inside a `with`."""
        before, self.num_frames = self.num_frames, num_frames
        try:
            yield
        finally:
            self.num_frames = before


def fold_frames(clip: Tensor) -> Tensor:
    """Move frames into the batch: (b, c, f, h, w) -> (b f, c, h, w)."""
    return rearrange(clip, "b c f h w -> (b f) c h w")


def unfold_frames(images: Tensor, num_frames: int) -> Tensor:
    """Take frames out of the batch: (b f, c, h, w) -> (b, c, f, h, w)."""
    return rearrange(images, "(b f) c h w -> b c f h w", f=num_frames)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Autocast off, also inside an outer autocast; nothing where the device has none."""
    casts = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if casts else nullcontext()


def check_clip(latents: Tensor, channels: int) -> None:
    """Check the shape of a clip's latents.

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
    """Check that text embeddings fit the clip and the model.

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
