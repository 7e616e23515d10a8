"""The inflated UNet as a module that takes clips."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..checks import check_tensor, check_type
from ..conditioning import Conditioning, as_conditioning
from .adapters import Adapter
from .added import check_added
from .attention import AttentionControl, nested
from .block import SpatioTemporalBlock
from .frames import FrameContext, check_clip, check_embeddings, fold_frames, unfold_frames, without_autocast

DEFAULTS: dict[str, str | bool | int] = {
    "group_norm": "video",
    "attention": "sparse_causal",
    "temporal_positions": False,
    "temporal": True,
    "lora_rank": 0,
}


class VideoUNet(nn.Module):
    """An inflated UNet, called with clips. Made by `inflate`.

    Attributes:
        unet: the inflated diffusers model, whose state-dict keys are those of the published implementation.
        context: the frame count and the level of gradient checkpointing, shared by all inflated modules.
        inflation: the options of `inflate`, those of DEFAULTS.
        adapter: the weights that tuning trains, and their strength.
        prediction_type: "epsilon" or "v_prediction", where the model was loaded by `load_model`; else None.
        before_call: called without arguments before each call of the model, such as to stop by an exception;
            None for nothing.
    """

    def __init__(self, unet: UNet2DConditionModel, context: FrameContext, inflation: Mapping[str, str | bool | int]):
        super().__init__()
        self.inflation = dict(inflation)
        self.unet = unet
        self.context = context
        for name, block in self.blocks.items():
            for attn in filter(None, (block.attn1, block.attn2, block.attn_temp)):
                attn.block = name
        self.adapter = Adapter(unet, self.blocks, low_rank=bool(inflation["lora_rank"]))
        self.prediction_type: str | None = getattr(unet, "prediction_type", None)
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
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        down_intrablock_additional_residuals: Sequence[Tensor] | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Predict noise or velocity for clips.

        Arguments:
            latents: (b, c, f, h, w), scaled by the VAE's factor, any floating type.
            timestep: one for all clips, or one for each, (b,).
            encoder_hidden_states: text embeddings (b, n, d).
            added_cond_kwargs: of SDXL: text_embeds (b, p), the pooled text, and time_ids (b, 6), height and width of
                the original, top and left of the crop, height and width of the target, in pixels.
            down_block_additional_residuals, mid_block_additional_residual: of a ControlNet of diffusers that is given
                the frames in its batch, (b f, c, h, w) each, the frames of a clip next to each other.
            down_intrablock_additional_residuals: likewise of a T2I-Adapter.
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
        check_added(added_cond_kwargs, batch, self.unet.config)
        timesteps = torch.as_tensor(timestep, device=latents.device).expand(batch).repeat_interleave(num_frames)
        compute_dtype = compute_dtype or self.dtype
        # A model in half precision computes in it throughout: only a finer one needs autocast's casts.
        lower = compute_dtype != self.dtype
        device = latents.device
        casts = torch.autocast(device.type, dtype=compute_dtype) if lower else without_autocast(device)
        residuals = self._residuals(
            batch * num_frames,
            down_block_additional_residuals=down_block_additional_residuals,
            mid_block_additional_residual=mid_block_additional_residual,
            down_intrablock_additional_residuals=down_intrablock_additional_residuals,
        )
        added = {
            name: tensor.to(device, self.dtype).repeat_interleave(num_frames, dim=0)
            for name, tensor in (added_cond_kwargs or {}).items()
        }
        given = dict(residuals, added_cond_kwargs=added) if added else residuals
        if self.context.control is not None:
            self.context.timesteps = timesteps[::num_frames]
            self.context.size = (latents.shape[3], latents.shape[4])
        with casts, self.context.counting(num_frames):
            images = fold_frames(latents).to(self.dtype)
            predicted = self.unet(images, timesteps, encoder_hidden_states.to(self.dtype), **given).sample
        return unfold_frames(predicted, num_frames).to(latents.dtype)

    def _residuals(self, images: int, **given: Any) -> dict[str, Any]:
        """The residuals that were given, in the model's type.

        Raises:
            ValueError: they are not as many as the model adds, or not for so many images.
        """
        given = {name: value for name, value in given.items() if value is not None}
        controlnet = {"down_block_additional_residuals", "mid_block_additional_residual"}
        if len(controlnet & given.keys()) == 1:
            raise ValueError(f"A ControlNet gives both of {', '.join(sorted(controlnet))}: pass both.")
        tensors = {name: [value] if isinstance(value, Tensor) else list(value) for name, value in given.items()}
        for name, values in tensors.items():
            if wrong := [value for value in values if value.ndim != 4 or value.shape[0] != images]:
                raise ValueError(
                    f"{name} are (frames of all clips, c, h, w), here {images} frames, not {tuple(wrong[0].shape)}: "
                    "give the frames as the batch of the ControlNet."
                )
        down = self.unet.down_blocks
        wanted = 1 + sum(len(block.resnets) + bool(block.downsamplers) for block in down)
        if len(tensors.get("down_block_additional_residuals", [0] * wanted)) != wanted:
            raise ValueError(
                f"This model adds {wanted} down_block_additional_residuals: use a ControlNet of its family."
            )
        converted = {name: [value.to(self.dtype) for value in values] for name, values in tensors.items()}
        return {name: converted[name] if name.startswith("down") else converted[name][0] for name in converted}

    @contextmanager
    def controlled(self, control: AttentionControl) -> Iterator[None]:
        """Let a control act on all attentions, inside a `with`. Without gradients: checkpointing would call it twice.

        Inside another one's `with` the control comes first, and what it attends with goes to the other: a recorder
        around an edit sees the attention that the edit replaced.
        """
        other = self.context.control
        self.context.control = control if other is None else nested(control, other)
        try:
            yield
        finally:
            self.context.control = other

    def reset(self) -> None:
        """Go back to the weights that `inflate` made, untuned, and to the published set of trained weights."""
        self.adapter.reset()


def trainable_parameters(video_unet: VideoUNet) -> dict[str, nn.Parameter]:
    """The weights that are tuned, saved, loaded, reset and scaled together.

    Returns:
        Parameters by their name in `video_unet.unet`: the published list (section 3.3), queries of both old attentions
        and all of the temporal attention, or what `tune(parameters=...)` was given.
    """
    return video_unet.adapter.parameters()


def check_video_unet(value: object) -> None:
    """Raise unless a value is an inflated model, as it is or as torch.compile returns it.

    Raises:
        TypeError: with the value and the remedy.
    """
    check_type("video_unet", plain_module(value), VideoUNet, "call inflate(unet) first")


def plain_module(value: Any) -> Any:
    """A module itself, or the one inside what torch.compile returns."""
    return getattr(value, "_orig_mod", value)


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
    check_video_unet(video_unet)
    check_tensor("latents", latents)
    check_clip(latents, video_unet.unet.config.in_channels)
    for name, embedding in embeddings.items():
        conditioning = as_conditioning(embedding)
        check_tensor(name, conditioning.text)
        check_embeddings(conditioning.text, latents.shape[0], video_unet.text_width)
        check_added(conditioning.added, latents.shape[0], video_unet.unet.config)
        for control in conditioning.controls:
            control.check(latents, video_unet.unet.config)
