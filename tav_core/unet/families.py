"""Which UNets can be inflated: Stable Diffusion 1, 2 and XL, and what is shaped like them."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from .block import SpatioTemporalBlock
from .modules import base_layer

COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
PLAIN_BLOCK_TYPES = {
    "CrossAttnDownBlock2D",
    "DownBlock2D",
    "UNetMidBlock2DCrossAttn",
    "CrossAttnUpBlock2D",
    "UpBlock2D",
}
# Attention processors of diffusers that compute the plain attention, whatever their kernel
PLAIN_PROCESSORS = {
    "AttnProcessor", "AttnProcessor2_0", "AttnProcessorNPU", "FusedAttnProcessor2_0", "SlicedAttnProcessor",
    "XFormersAttnProcessor", "XLAFlashAttnProcessor2_0",
}  # fmt: skip
REFINER_IDS = 5  # sizes that the SDXL refiner takes, a score of beauty among them; its pooled text is all its text
UNSUPPORTED_CONDITIONS = (
    "class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "only_cross_attention",
    "mid_block_only_cross_attention", "dual_cross_attention", "resnet_skip_time_act",
)  # fmt: skip


def raise_unless_supported(unet: nn.Module) -> None:
    """Say why a model cannot be inflated, before anything is changed.

    Raises:
        TypeError, ValueError: see `inflate`.
    """
    modules = unet.modules() if isinstance(unet, nn.Module) else ()
    if any(isinstance(module, SpatioTemporalBlock) for module in modules):
        raise ValueError("This UNet is inflated already. Use the VideoUNet you have, or load the UNet anew.")
    if not isinstance(unet, UNet2DConditionModel):
        raise TypeError(
            f"Expected a diffusers UNet2DConditionModel (Stable Diffusion 1, 2 or XL), got {type(unet).__name__}. "
            "Three-dimensional and motion models have a notion of time already; give the image model."
        )
    config = unet.config
    _raise_for_other_sdxl(config)
    strange = [key for key in UNSUPPORTED_CONDITIONS if _is_set(config.get(key))]
    if strange:
        raise ValueError(
            f"This UNet has {', '.join(f'{key}={config[key]!r}' for key in strange)}: it takes more than "
            "a prompt, or attends otherwise than Stable Diffusion 1, 2 and XL do. Give a UNet of that family."
        )
    types = {*config.down_block_types, *config.up_block_types, config.mid_block_type or "no middle block"}
    if types - PLAIN_BLOCK_TYPES:
        raise ValueError(f"This UNet has {sorted(types - PLAIN_BLOCK_TYPES)}; known are {sorted(PLAIN_BLOCK_TYPES)}.")
    if config.resnet_time_scale_shift != "default":
        raise ValueError(
            f"This UNet has resnet_time_scale_shift={config.resnet_time_scale_shift!r}: its resnets are not those of "
            "Stable Diffusion 1, 2 and XL. Give a UNet of that family."
        )
    if config.in_channels != config.out_channels:
        raise ValueError(
            f"This UNet takes {config.in_channels} channels and returns {config.out_channels}: an inpainting or "
            "instruction model. Give the plain text-to-image model."
        )
    _raise_unless_trainable(unet)


def _raise_for_other_sdxl(config: Any) -> None:
    """Refuse what is made of SDXL, or takes other additions than its base does."""
    if config.get("reverse_transformer_layers_per_block") is not None:
        raise ValueError("This UNet is a distilled SDXL (as SSD-1B and Vega): give SDXL's base or a fine-tune of it.")
    kind = config.get("addition_embed_type")
    if kind not in (None, "text_time"):
        raise ValueError(f"This UNet has addition_embed_type={kind!r}: give one of Stable Diffusion 1, 2 or XL.")
    if kind and config.projection_class_embeddings_input_dim - REFINER_IDS * config.addition_time_embed_dim == (
        config.cross_attention_dim
    ):
        raise ValueError("This UNet is the SDXL refiner: give SDXL's base or a fine-tune of it.")


def _raise_unless_trainable(unet: UNet2DConditionModel) -> None:
    if unet.is_gradient_checkpointing:
        raise ValueError(
            "Gradient checkpointing of this UNet would not act: call unet.disable_gradient_checkpointing() first, and "
            "tune with TuningConfig(gradient_checkpointing=True)."
        )
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
            raise ValueError("This UNet has gated, adaptive or positional blocks; give one of Stable Diffusion 1, 2 or XL.")
        for attn in (block.attn1, block.attn2):
            if isinstance(attn.processor, nn.Module) or not isinstance(base_layer(attn.to_q), nn.Linear):
                raise ValueError("This UNet carries an adapter other than a LoRA of peft: unload an IP-Adapter.")
            if (processor := type(attn.processor).__name__) not in PLAIN_PROCESSORS:
                raise ValueError(
                    f"This UNet has the attention processor {processor}, which would not run: call "
                    "unet.set_attn_processor(AttnProcessor2_0()) first, and control the video model with "
                    "video_unet.controlled."
                )
    widths = {block.attn2.to_k.in_features for block in blocks}
    if len(widths) > 1:
        raise ValueError(f"This UNet takes text of several widths, {sorted(widths)}; one is supported.")


def _is_set(value: object) -> bool:
    return any(value) if isinstance(value, (list, tuple)) else bool(value)
