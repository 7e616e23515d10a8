"""Inflation: a text-to-image UNet becomes a text-to-video one, in place (arXiv:2212.11565, section 3.2).

The UNet of diffusers keeps its code, its weights and its state-dict keys. Frames are folded into the batch, and four
kinds of module are replaced:

    BasicTransformerBlock  -> SpatioTemporalBlock   sparse-causal attention, and a new temporal attention
    Transformer2DModel     -> ClipTransformer       the same, and stores only its input for the backward pass
    ResnetBlock2D          -> ClipResnet            the same, with statistics over the clip in its GroupNorms,
                                                    and so the GroupNorm before the last convolution
    Conv2d                 -> FrozenConv2d          the same, and stores no input for a gradient of its weight

The new temporal attention ends in a zero projection, so that the inflated model starts as the image model exactly.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from ..checks import check_choice, check_integer
from .adapters import trained_layers
from .block import ATTENTION_MODES, SpatioTemporalBlock
from .families import raise_unless_supported
from .frames import FrameContext
from .low_rank import MAX_RANK, add_low_rank
from .modules import ClipGroupNorm, ClipResnet, ClipTransformer, FrozenConv2d
from .refused import refuse_methods
from .video_unet import VideoUNet, trainable_parameters

GROUP_NORM_MODES = ("video", "frame")
OWN_WEIGHTS = "_published_temporal"  # attribute of a UNet with the temporal attention of its file, by name


def inflate(
    unet: UNet2DConditionModel,
    *,
    group_norm: str = "video",
    attention: str = "sparse_causal",
    temporal: bool = True,
    temporal_positions: bool = False,
    lora_rank: int = 0,
) -> VideoUNet:
    """Inflate a text-to-image UNet, in place.

    Arguments:
        unet: the UNet of Stable Diffusion 1, 2 or XL or one shaped like it, not inflated yet. It is changed and kept.
        group_norm: "video" pools the statistics of the resnets' norms over the clip, as published and as published
            weights need it; "frame" keeps the image model's own.
        attention: "sparse_causal", or "per_frame" for the image model's own self-attention (an ablation).
        temporal: False to add no temporal attention (an ablation).
        temporal_positions: add an encoding of the frame's number to what the temporal attention reads (`positions.py`).
            As published it cannot tell the order of frames. Weights tuned with it are of no use without it.
        lora_rank: train low-rank updates of this rank in place of the published layers' weights, which stay as they are
            (`low_rank.py`; it needs peft); 0 for the weights themselves, as published.

    Returns:
        The video model. Its trained weights are float32 and alone require a gradient.

    Raises:
        TypeError: if `unet` is not a UNet2DConditionModel.
        ValueError: if it is inflated already, has parts that this method does not know, or an option is unknown.
        ImportError: if lora_rank is given, and peft is not installed.
    """
    check_choice("group_norm", group_norm, GROUP_NORM_MODES)
    check_choice("attention", attention, ATTENTION_MODES)
    check_choice("temporal", temporal, (False, True))
    check_choice("temporal_positions", temporal_positions, (False, True))
    check_integer("lora_rank", lora_rank, 0, MAX_RANK)
    if temporal_positions and not temporal:
        raise ValueError("temporal_positions are read by the temporal attention: leave one of the two options out.")
    raise_unless_supported(unet)
    context = FrameContext()
    with torch.inference_mode(False), torch.no_grad():  # a weight made in inference mode would never train
        options: dict[str, str | bool | int] = {
            "group_norm": group_norm,
            "attention": attention,
            "temporal_positions": temporal_positions,
            "temporal": temporal,
            "lora_rank": lora_rank,
        }
        _replace_modules(unet, context, options)
        if lora_rank:
            add_low_rank(unet, trained_layers(unet), lora_rank)
        refuse_methods(unet)
        video_unet = VideoUNet(unet, context, options)
        video_unet.reset()
        _load_own_weights(unet, temporal)
        video_unet.requires_grad_(False)
        for parameter in trainable_parameters(video_unet).values():
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
            parameter.requires_grad_(True)
    return video_unet


def _load_own_weights(unet: UNet2DConditionModel, temporal: bool) -> None:
    """Load the temporal attention that came with a UNet of the published implementation."""
    own = vars(unet).pop(OWN_WEIGHTS, None)
    if own is None:
        return
    if not temporal:
        raise ValueError("The file of this UNet has a temporal attention: leave temporal=False out.")
    wanted = {name for name in unet.state_dict() if ".attn_temp." in name or ".norm_temp." in name}
    if wanted != own.keys():
        raise ValueError(
            f"The file of this UNet has other tensors of the temporal attention than it needs, such as "
            f"{min(wanted ^ own.keys())}. Copy the model again."
        )
    unet.load_state_dict(own, strict=False)


def _replace_modules(unet: UNet2DConditionModel, context: FrameContext, options: Mapping[str, Any]) -> None:
    """Replace the modules of the table above; their weights are shared, not copied."""
    group_norm = options["group_norm"]
    of_blocks = {name: options[name] for name in ("attention", "temporal_positions", "temporal")}
    for name, module in list(unet.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, BasicTransformerBlock):
            block = SpatioTemporalBlock(module, context, **of_blocks)
            setattr(unet.get_submodule(parent), child, block)
        elif isinstance(module, Transformer2DModel):
            setattr(unet.get_submodule(parent), child, ClipTransformer(module))
        elif isinstance(module, ResnetBlock2D):
            setattr(unet.get_submodule(parent), child, ClipResnet(module, context, group_norm == "video"))
    for name, module in list(unet.named_modules()):
        if type(module) is nn.Conv2d:
            parent, _, child = name.rpartition(".")
            setattr(unet.get_submodule(parent), child, FrozenConv2d.adopt(module))
    if unet.conv_norm_out is not None and group_norm == "video":
        unet.conv_norm_out = ClipGroupNorm(unet.conv_norm_out, context)
