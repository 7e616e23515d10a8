"""Inflation: a text-to-image UNet becomes a text-to-video one, in place (arXiv:2212.11565, section 3.2).

The UNet of diffusers keeps its code, its weights and its state-dict keys. Frames ride in the batch, and four kinds of
module are swapped:

    BasicTransformerBlock  -> SpatioTemporalBlock   sparse-causal attention, and a new temporal attention
    Transformer2DModel     -> ClipTransformer       the same, and may keep nothing for the way back but its images
    ResnetBlock2D          -> ClipResnet            the same, with statistics over the clip in its GroupNorms,
                                                    and so the GroupNorm before the last convolution
    Conv2d                 -> FrozenConv2d          the same, and keeps nothing for a gradient of its weight

The new temporal attention ends in a zero projection, so that the inflated model starts as the image model exactly.
"""

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from ..checks import check_choice, check_kind, check_tensor
from .attention import ATTENTION_MODES, SpatioTemporalBlock
from .frames import ClipGroupNorm, ClipState, check_clip, check_embeddings, fold_frames, unfold_frames, without_autocast
from .frozen import FrozenConv2d
from .resnet import ClipResnet
from .transformer import ClipTransformer

GROUP_NORM_MODES = ("video", "frame")
COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
TEMPORAL_SEED = 0

PLAIN_BLOCK_TYPES = {
    "CrossAttnDownBlock2D",
    "DownBlock2D",
    "UNetMidBlock2DCrossAttn",
    "CrossAttnUpBlock2D",
    "UpBlock2D",
}
CONDITIONS_WITHOUT_SUPPORT = (
    "class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type", "only_cross_attention",
    "mid_block_only_cross_attention", "dual_cross_attention", "resnet_skip_time_act",
)  # fmt: skip


class VideoUNet(nn.Module):
    """An inflated UNet, called with clips. Made by `inflate`.

    Attributes:
        unet: the inflated diffusers model, whose state-dict keys are those of the published implementation.
        base_queries: the query projections as the image model had them, by name, on the CPU. `load_tuned` measures its
            strength from them.
    """

    def __init__(self, unet: UNet2DConditionModel, clip: ClipState):
        super().__init__()
        self.unet = unet
        self.clip = clip
        self.text_width = next(iter(self.blocks.values())).attn2.to_k.in_features
        self.base_queries = {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in trainable_parameters(self).items()
            if ".attn_temp." not in name
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the frozen weights, in which the model computes. Weights that train rest in float32."""
        return self.unet.conv_in.weight.dtype

    @property
    def blocks(self) -> dict[str, SpatioTemporalBlock]:
        """The spatio-temporal blocks by their name in `unet`."""
        return {name: module for name, module in self.unet.named_modules() if isinstance(module, SpatioTemporalBlock)}

    @property
    def temporal_positions(self) -> bool:
        """Whether the temporal attention is told where in the clip each frame stands."""
        return any(block.temporal_positions for block in self.blocks.values())

    def forward(
        self,
        latents: Tensor,
        timestep: int | Tensor,
        encoder_hidden_states: Tensor,
        *,
        compute_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Predict noise or velocity for clips.

        Gradient checkpointing reads the frame count again in the backward pass: run it before the next forward.

        Arguments:
            latents: (b, c, f, h, w), scaled by the VAE's factor, any floating type.
            timestep: one for all clips, or one for each, (b,).
            encoder_hidden_states: text embeddings (b, n, d).
            compute_dtype: the type of matrix products and convolutions; None for that of the frozen weights.

        Returns:
            The prediction (b, c, f, h, w), in the type of `latents`.

        Raises:
            ValueError: if a shape is not as said.
        """
        check_clip(latents, self.unet.config.in_channels)
        batch, num_frames = latents.shape[0], latents.shape[2]
        check_embeddings(encoder_hidden_states, batch, self.text_width)
        self.clip.num_frames = num_frames
        timesteps = torch.as_tensor(timestep, device=latents.device).expand(batch).repeat_interleave(num_frames)
        compute_dtype = compute_dtype or self.dtype
        # A model that rests in half precision computes in it throughout: only a finer one needs autocast's casts.
        lower = compute_dtype != self.dtype
        device = latents.device
        with torch.autocast(device.type, dtype=compute_dtype) if lower else without_autocast(device):
            images = fold_frames(latents).to(self.dtype)
            predicted = self.unet(images, timesteps, encoder_hidden_states.to(self.dtype)).sample
        return unfold_frames(predicted, num_frames).to(latents.dtype)

    def reset(self) -> None:
        """Put the trained weights back to what `inflate` made: untuned, as if nothing had run before."""
        with torch.inference_mode(False), torch.no_grad():
            parameters = trainable_parameters(self)
            for name, base in self.base_queries.items():
                parameters[name].copy_(base)
            initialise_temporal(self)


def check_inputs(video_unet: VideoUNet, latents: Tensor, **embeddings: Tensor) -> None:
    """Refuse what a model cannot be run on, before the first step.

    Arguments:
        video_unet: the inflated model.
        latents: to be (b, c, f, h, w).
        embeddings: each to be (b, n, d), by the names that messages give them.

    Raises:
        TypeError: if one of them is something else.
        ValueError: if a shape, a type of number, a place or a number does not fit.
    """
    check_kind("video_unet", video_unet, VideoUNet, "call inflate(unet) first")
    check_tensor("latents", latents)
    check_clip(latents, video_unet.unet.config.in_channels)
    for name, embedding in embeddings.items():
        check_tensor(name, embedding)
        check_embeddings(embedding, latents.shape[0], video_unet.text_width)


def inflate(
    unet: UNet2DConditionModel,
    *,
    group_norm: str = "video",
    attention: str = "sparse_causal",
    temporal_positions: bool = False,
) -> VideoUNet:
    """Inflate a text-to-image UNet, in place.

    Arguments:
        unet: the UNet of Stable Diffusion 1 or 2 or one shaped like it, not inflated yet. It is changed and kept.
        group_norm: "video" pools the statistics of the resnets' norms over the clip, as published and as published
            weights need it; "frame" keeps the image model's own.
        attention: "sparse_causal", or "per_frame" for the image model's own self-attention (an ablation).
        temporal_positions: add an encoding of the frame's number to what the temporal attention reads (`positions.py`).
            As published it cannot tell the order of frames. Weights tuned with it are of no use without it.

    Returns:
        The video model. Its trained weights are float32 and alone require a gradient.

    Raises:
        TypeError: if `unet` is not a UNet2DConditionModel.
        ValueError: if it is inflated already, has parts that this method does not know, or an option is unknown.
    """
    check_choice("group_norm", group_norm, GROUP_NORM_MODES)
    check_choice("attention", attention, ATTENTION_MODES)
    check_choice("temporal_positions", temporal_positions, (False, True))
    _refuse_unsupported(unet)
    clip = ClipState()
    with torch.inference_mode(False), torch.no_grad():  # a weight made in inference mode would never train
        _swap_modules(unet, clip, group_norm, attention, temporal_positions)
        video_unet = VideoUNet(unet, clip)
        initialise_temporal(video_unet)
        video_unet.requires_grad_(False)
        for parameter in trainable_parameters(video_unet).values():
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
            parameter.requires_grad_(True)
    return video_unet


def _swap_modules(
    unet: UNet2DConditionModel, clip: ClipState, group_norm: str, attention: str, temporal_positions: bool
) -> None:
    """Put those of the table above in their places; weights stay where they are."""
    for name, module in list(unet.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, BasicTransformerBlock):
            block = SpatioTemporalBlock(module, clip, attention, temporal_positions)
            setattr(unet.get_submodule(parent), child, block)
        elif isinstance(module, Transformer2DModel):
            setattr(unet.get_submodule(parent), child, ClipTransformer(module))
        elif isinstance(module, ResnetBlock2D):
            setattr(unet.get_submodule(parent), child, ClipResnet(module, clip, group_norm == "video"))
    for name, module in list(unet.named_modules()):
        if type(module) is nn.Conv2d:
            parent, _, child = name.rpartition(".")
            setattr(unet.get_submodule(parent), child, FrozenConv2d(module))
    if unet.conv_norm_out is not None and group_norm == "video":
        unet.conv_norm_out = ClipGroupNorm(unet.conv_norm_out, clip)


def initialise_temporal(video_unet: VideoUNet) -> None:
    """Draw the temporal attention of all blocks from a generator of its own, with a zero output projection."""
    generator = torch.Generator().manual_seed(TEMPORAL_SEED)
    for block in video_unet.blocks.values():
        block.initialise_temporal(generator)


def trainable_parameters(video_unet: VideoUNet) -> dict[str, nn.Parameter]:
    """The weights that tuning changes (section 3.3): queries of both old attentions, and all of the temporal attention.

    Returns:
        Parameters by their name in `video_unet.unet`, the published list.
    """
    chosen = ("attn1.to_q.", "attn2.to_q.", "attn_temp.")
    return {
        f"{block_name}.{name}": parameter
        for block_name, block in video_unet.blocks.items()
        for name, parameter in block.named_parameters()
        if name.startswith(chosen)
    }


def _refuse_unsupported(unet: nn.Module) -> None:
    """Say why a model cannot be inflated, before anything is changed.

    Raises:
        TypeError, ValueError: see `inflate`.
    """
    modules = unet.modules() if isinstance(unet, nn.Module) else ()
    if any(isinstance(module, SpatioTemporalBlock) for module in modules):
        raise ValueError("This UNet is inflated already. Use the VideoUNet you have, or load the UNet anew.")
    if not isinstance(unet, UNet2DConditionModel):
        raise TypeError(
            f"Expected a diffusers UNet2DConditionModel (Stable Diffusion 1 or 2), got {type(unet).__name__}. "
            "Three-dimensional and motion models have a notion of time already; give the image model."
        )
    config = unet.config
    strange = [key for key in CONDITIONS_WITHOUT_SUPPORT if _is_set(config.get(key))]
    if strange:
        raise ValueError(
            f"This UNet has {', '.join(f'{key}={config[key]!r}' for key in strange)}: it takes more than "
            "a prompt, or attends otherwise than Stable Diffusion 1 and 2 do. Give a UNet of that family."
        )
    types = {*config.down_block_types, *config.up_block_types, config.mid_block_type or "no middle block"}
    if types - PLAIN_BLOCK_TYPES:
        raise ValueError(f"This UNet has {sorted(types - PLAIN_BLOCK_TYPES)}; known are {sorted(PLAIN_BLOCK_TYPES)}.")
    if config.resnet_time_scale_shift != "default":
        raise ValueError(
            f"This UNet has resnet_time_scale_shift={config.resnet_time_scale_shift!r}: its resnets are not those of "
            "Stable Diffusion 1 and 2. Give a UNet of that family."
        )
    if config.in_channels != config.out_channels:
        raise ValueError(
            f"This UNet takes {config.in_channels} channels and returns {config.out_channels}: an inpainting or "
            "instruction model. Give the plain text-to-image model."
        )
    _refuse_unsupported_weights(unet)


def _refuse_unsupported_weights(unet: UNet2DConditionModel) -> None:
    if any(parameter.is_inference() for parameter in unet.parameters()):
        raise ValueError("This UNet was made under torch.inference_mode() and can never train. Load it outside of it.")
    dtypes = {parameter.dtype for parameter in unet.parameters()}
    if not dtypes <= set(COMPUTE_DTYPES):
        raise ValueError(f"Weights are one of {COMPUTE_DTYPES}, got {dtypes}. Load the model without quantisation.")
    blocks = [module for module in unet.modules() if isinstance(module, BasicTransformerBlock)]
    if not blocks:
        raise ValueError("This UNet has no transformer block, so nothing to tune. Give a text-to-image UNet.")
    for block in blocks:
        plain = block.norm_type == "layer_norm" and block.attn2 is not None and block.pos_embed is None
        if not plain or hasattr(block, "fuser"):
            raise ValueError("This UNet has gated, adaptive or positional blocks; give a Stable Diffusion 1 or 2 UNet.")
        for attn in (block.attn1, block.attn2):
            if isinstance(attn.processor, nn.Module) or not isinstance(attn.to_q, nn.Linear):
                raise ValueError("This UNet carries an adapter. Fuse a LoRA into the weights, unload an IP-Adapter.")
    widths = {block.attn2.to_k.in_features for block in blocks}
    if len(widths) > 1:
        raise ValueError(f"This UNet takes text of several widths, {sorted(widths)}; one is supported.")


def _is_set(value: object) -> bool:
    return any(value) if isinstance(value, (list, tuple)) else bool(value)
