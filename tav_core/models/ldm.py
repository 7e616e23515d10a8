"""Configurations of the networks of a single-file checkpoint, from the shapes of its tensors.

The layout is that of CompVis/latent-diffusion, Stability-AI/stablediffusion and Stability-AI/generative-models (Stable
Diffusion 1, 2 and XL), as published and as merged since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..unet.added import NUM_TIME_IDS
from .folder import INPUTS, ModelError

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
CLIP_XL, OPEN_CLIP_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."  # SDXL has both
_HEAD_WIDTH = 64  # of CLIP, and of the UNets of Stable Diffusion 2
_HEADS = 8  # of the UNets of Stable Diffusion 1
_GROUPS = 32  # of GroupNorm
_SCALING_FACTOR, _SCALING_FACTOR_XL = 0.18215, 0.13025
_LABELS = UNET + "label_emb.0.0.weight"  # of what SDXL takes beside the prompt
Shapes = Mapping[str, tuple[int, ...]]

# A tensor's name, or a part of it, that only checkpoints of this kind have
_OTHERS = {
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3 (flow matching)",
    "joint_blocks.": "Stable Diffusion 3 (flow matching)",
    "double_blocks.": "Flux, or a model like it (flow matching)",
    "clip_txt_mapper": "Stable Cascade",
    "clip_txt_pooled_mapper": "Stable Cascade",
    "model.diffusion_model.clip_img_mapper": "Stable Cascade",
    "conditioner.embedders.0.model.": "the SDXL refiner",
    "scaled_fp8": "scaled fp8",
    "control_model.": "a ControlNet",
    "lora_unet_": "a LoRA",
}


def raise_unless_supported(name: str, shapes: Shapes) -> None:
    """Raise a ModelError, with the kind's name, unless the tensors are those of Stable Diffusion 1, 2 or XL."""
    kinds = [kind for part, kind in _OTHERS.items() if any(key.startswith(part) or f".{part}" in key for key in shapes)]
    if not kinds and f"{UNET}input_blocks.0.0.weight" in shapes:
        channels = str(shapes[f"{UNET}input_blocks.0.0.weight"][1])
        kinds = [INPUTS[channels]] if channels in INPUTS else []
    if kinds:
        raise ModelError(
            f"{name} is {kinds[0]}, which Tune-A-Video does not take: give a checkpoint of Stable Diffusion 1, 2 or XL."
        )
    parts = {"the UNet": UNET + "input_blocks.0.0.weight", "the VAE": VAE + "encoder.conv_in.weight"}
    missing = [part for part, key in parts.items() if key not in shapes]
    if not any(key.startswith((CLIP, OPEN_CLIP, CLIP_XL)) for key in shapes):
        missing.append("the text encoder")
    if is_xl(shapes) != any(key.startswith(OPEN_CLIP_XL) for key in shapes):
        missing.append("the second text encoder" if is_xl(shapes) else "what SDXL takes beside the prompt")
    if missing:
        raise ModelError(
            f"{name} lacks {' and '.join(missing)} of Stable Diffusion: give a whole checkpoint, or a folder in "
            "diffusers' layout."
        )


def is_xl(shapes: Shapes) -> bool:
    """Whether the UNet takes more than a prompt, as SDXL's does."""
    return _LABELS in shapes


def unet_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of a diffusers UNet2DConditionModel."""
    blocks: list[tuple[int, int]] = []  # channels of each residual block of the way down, and transformer blocks
    downs: list[int] = []  # how many blocks come before each downsampling
    for index in range(1, _count(shapes, UNET + "input_blocks.")):
        block = f"{UNET}input_blocks.{index}."
        if block + "0.op.weight" in shapes:
            downs.append(len(blocks))
        else:
            attends = _count(shapes, block + "1.transformer_blocks.")
            blocks.append((shapes[block + "0.out_layers.3.weight"][0], attends))
    layers = downs[0] if downs else len(blocks)
    levels = blocks[::layers]
    context = next(size for key, size in shapes.items() if key.startswith(UNET) and key.endswith("attn2.to_k.weight"))[
        1
    ]
    channels = tuple(width for width, _ in levels)
    linear = (
        len(next(size for key, size in shapes.items() if key.startswith(UNET) and key.endswith("proj_in.weight"))) == 2
    )
    return {
        "sample_size": 128 if is_xl(shapes) else 64,
        "in_channels": shapes[UNET + "input_blocks.0.0.weight"][1],
        "out_channels": shapes[UNET + "out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for _, attends in levels),
        "up_block_types": tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for _, attends in reversed(levels)),
        "cross_attention_dim": context,
        "attention_head_dim": tuple(max(1, width // _HEAD_WIDTH) for width in channels) if linear else _HEADS,
        "use_linear_projection": linear,
        "upcast_attention": linear and not is_xl(shapes),
        "norm_num_groups": _groups(channels),
        **(_additions(shapes, levels) if is_xl(shapes) else {}),
    }


def _additions(shapes: Shapes, levels: list[tuple[int, int]]) -> dict[str, Any]:
    """What only SDXL's configuration has."""
    width, pooled = shapes[_LABELS][1], shapes[OPEN_CLIP_XL + "text_projection"][1]
    return {
        "transformer_layers_per_block": tuple(max(1, attends) for _, attends in levels),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (width - pooled) // NUM_TIME_IDS,
        "projection_class_embeddings_input_dim": width,
    }


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of a diffusers AutoencoderKL."""
    levels = _count(shapes, VAE + "encoder.down.")
    layers = _count(shapes, VAE + "encoder.down.0.block.")
    channels = tuple(shapes[f"{VAE}encoder.down.{level}.block.{layers - 1}.conv2.weight"][0] for level in range(levels))
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": layers,
        "latent_channels": shapes[VAE + "post_quant_conv.weight"][0],
        "scaling_factor": _SCALING_FACTOR_XL if is_xl(shapes) else _SCALING_FACTOR,
        "norm_num_groups": _groups(channels),
    }


def text_config(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """The configuration of a transformers CLIPTextModel; Stable Diffusion 2 does not use the last layer of OpenCLIP.

    Arguments:
        prefix: CLIP, OPEN_CLIP, CLIP_XL or OPEN_CLIP_XL.
    """
    projection = shapes.get(prefix + "text_projection")
    if prefix in (OPEN_CLIP, OPEN_CLIP_XL):
        embedding, layer = prefix + "token_embedding.weight", prefix + "transformer.resblocks."
        first, position = layer + "0.mlp.c_fc.weight", prefix + "positional_embedding"
        layers, activation = _count(shapes, layer) - (prefix == OPEN_CLIP), "gelu"
    else:
        text = clip_prefix(shapes, prefix)
        embedding, layer = text + "embeddings.token_embedding.weight", text + "encoder.layers."
        first, position = layer + "0.mlp.fc1.weight", text + "embeddings.position_embedding.weight"
        layers, activation = _count(shapes, layer), "quick_gelu"
    vocabulary, width = shapes[embedding]
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes[first][0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "max_position_embeddings": shapes[position][0],
        "hidden_act": activation,
        "projection_dim": projection[1] if projection else width,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


def clip_prefix(shapes: Shapes, prefix: str) -> str:
    """Of the text model's tensors; some merges leave out "text_model."."""
    return prefix + ("text_model." if any(key.startswith(prefix + "text_model.") for key in shapes) else "")


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbers follow a prefix."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return len({found[1] for key in shapes if (found := pattern.match(key))})


def _groups(channels: tuple[int, ...]) -> int:
    """32 as published, or the largest power of two below it that divides all numbers of channels."""
    return next(groups for groups in (_GROUPS, 16, 8, 4, 2, 1) if not any(width % groups for width in channels))
