"""The inflated UNet as a module that takes clips."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..checks import check_tensor, check_type
from ..conditioning import Conditioning, as_conditioning
from .adapters import QueryTemporal
from .attention import AttentionControl
from .block import SpatioTemporalBlock
from .frames import FrameContext, check_clip, check_embeddings, fold_frames, unfold_frames, without_autocast

DEFAULTS: dict[str, str | bool] = {"group_norm": "video", "attention": "sparse_causal", "temporal_positions": False}


class VideoUNet(nn.Module):
    """An inflated UNet, called with clips. Made by `inflate`.

    Attributes:
        unet: the inflated diffusers model, whose state-dict keys are those of the published implementation.
        context: the frame count and the level of gradient checkpointing, shared by all inflated modules.
        inflation: the options of `inflate`, those of DEFAULTS.
        adapter: the weights that tuning trains, and their strength.
        before_call: called without arguments before each call of the model, such as to stop by an exception;
            None for nothing.
    """

    def __init__(self, unet: UNet2DConditionModel, context: FrameContext, inflation: Mapping[str, str | bool]):
        super().__init__()
        self.inflation = dict(inflation)
        self.unet = unet
        self.context = context
        for name, block in self.blocks.items():
            for attn in (block.attn1, block.attn2, block.attn_temp):
                attn.block = name
        self.adapter = QueryTemporal(self.blocks)
        self.before_call: Callable[[], object] | None = None
        self.text_width = next(iter(self.blocks.values())).attn2.to_k.in_features

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the frozen weights, in which the model computes. Weights that train rest in float32."""
        return self.unet.conv_in.weight.dtype

    @property
    def blocks(self) -> dict[str, SpatioTemporalBlock]:
        """The spatio-temporal blocks by their name in `unet`."""
        return {name: module for name, module in self.unet.named_modules() if isinstance(module, SpatioTemporalBlock)}

    def forward(
        self,
        latents: Tensor,
        timestep: int | Tensor,
        encoder_hidden_states: Tensor,
        *,
        compute_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Predict noise or velocity for clips.

        Arguments:
            latents: (b, c, f, h, w), scaled by the VAE's factor, any floating type.
            timestep: one for all clips, or one for each, (b,).
            encoder_hidden_states: text embeddings (b, n, d).
            compute_dtype: the type of matrix products and convolutions; None for that of the frozen weights.

        Returns:
            The prediction (b, c, f, h, w), in the type of `latents`.

        Raises:
            ValueError: if a shape does not fit.
        """
        if self.before_call is not None:
            self.before_call()
        check_clip(latents, self.unet.config.in_channels)
        batch, num_frames = latents.shape[0], latents.shape[2]
        check_embeddings(encoder_hidden_states, batch, self.text_width)
        timesteps = torch.as_tensor(timestep, device=latents.device).expand(batch).repeat_interleave(num_frames)
        compute_dtype = compute_dtype or self.dtype
        # A model in half precision computes in it throughout: only a finer one needs autocast's casts.
        lower = compute_dtype != self.dtype
        device = latents.device
        casts = torch.autocast(device.type, dtype=compute_dtype) if lower else without_autocast(device)
        with casts, self.context.counting(num_frames):
            images = fold_frames(latents).to(self.dtype)
            predicted = self.unet(images, timesteps, encoder_hidden_states.to(self.dtype)).sample
        return unfold_frames(predicted, num_frames).to(latents.dtype)

    @contextmanager
    def controlled(self, control: AttentionControl) -> Iterator[None]:
        """Let a control act on all attentions, inside a `with`. Without gradients: checkpointing would call it twice.

        Raises:
            RuntimeError: if another control is set.
        """
        if self.context.control is not None:
            raise RuntimeError("This model runs under another attention control: end its `with` first.")
        self.context.control = control
        try:
            yield
        finally:
            self.context.control = None

    def reset(self) -> None:
        """Go back to the weights that `inflate` made: untuned."""
        self.adapter.reset()


def trainable_parameters(video_unet: VideoUNet) -> dict[str, nn.Parameter]:
    """The weights that tuning changes (section 3.3): queries of both old attentions, and all of the temporal attention.

    Returns:
        Parameters by their name in `video_unet.unet`, the published list.
    """
    return video_unet.adapter.parameters()


def check_inputs(video_unet: VideoUNet, latents: Tensor, **embeddings: Tensor | Conditioning) -> None:
    """Check the inputs of a run before its first step.

    Arguments:
        video_unet: the inflated model.
        latents: to be (b, c, f, h, w).
        embeddings: each to be (b, n, d), by the names that messages give them.

    Raises:
        TypeError: if one of them is something else.
        ValueError: if a shape, a type of number, a place or a number does not fit.
    """
    check_type("video_unet", video_unet, VideoUNet, "call inflate(unet) first")
    check_tensor("latents", latents)
    check_clip(latents, video_unet.unet.config.in_channels)
    for name, embedding in embeddings.items():
        text = as_conditioning(embedding).text
        check_tensor(name, text)
        check_embeddings(text, latents.shape[0], video_unet.text_width)
