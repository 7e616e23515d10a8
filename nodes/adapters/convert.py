"""ComfyUI's MODEL to a diffusers UNet of its own, and to the noise levels that the model was trained on.

Names are translated by the key map with which the host reads LoRA files. Sizes, heads and groups are read from the
host's modules, and each weight is the one that the host computes with: patches (LoRA) applied. MODEL does not change.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import comfy.lora
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_sampling import EPS, V_PREDICTION, ModelSamplingDiscrete

from ...tav_core import NoiseSchedule

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

PREFIX = "diffusion_model."
ATTENTION = "attentions.0.transformer_blocks.0.attn1"
SCALES = {"input_scale", "pre_quant_scale", "scale_input", "scale_weight", "weight_scale"}  # beside quantised weights
PREDICTION_TYPES = {EPS.calculate_denoised: "epsilon", V_PREDICTION.calculate_denoised: "v_prediction"}


class UnsupportedModel(ValueError):
    """A MODEL that this pack cannot inflate; the message names its family and what to load instead."""


def to_diffusers(model: Any, dtype: torch.dtype) -> UNet2DConditionModel:
    """A fresh UNet with the weights of MODEL, dequantised, patches applied, on the CPU, that can be trained.

    Arguments:
        model: the host's ModelPatcher.
        dtype: of the new weights.

    Raises:
        UnsupportedModel: if it is no plain Stable Diffusion 1, 2 or XL, or carries more than weight patches.
    """
    from diffusers import UNet2DConditionModel

    raise_unless_supported(model)
    _raise_if_code_is_patched(model)
    entries = _entries(model)
    host_keys = {key.removeprefix(PREFIX) for key in entries}
    key_map = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    # The host names the weights for what SDXL takes beside the prompt twice.
    keys = {name: key for name, key in key_map.items() if key in host_keys and not name.startswith("class_embedding.")}
    unknown = sorted(host_keys - set(keys.values()))
    if unknown:
        raise UnsupportedModel(
            f"{_described(model)} has {len(unknown)} weights that are not part of Stable Diffusion 1, 2 and XL, "
            f"such as {unknown[0]}. Load a plain checkpoint of that family."
        )
    # A weight made in inference mode would never train, and the host runs all nodes in that mode.
    with torch.inference_mode(False), torch.no_grad():
        state = {name: _patched(model, entries[PREFIX + key], PREFIX + key, dtype) for name, key in keys.items()}
        with torch.device("meta"):
            unet = UNet2DConditionModel(**_diffusers_config(model, keys))
        unet.load_state_dict(state, strict=True, assign=True)
    return unet.eval()


def noise_schedule(model: Any) -> NoiseSchedule:
    """The noise levels and prediction type of MODEL, with the changes of a ModelSampling node upstream.

    Raises:
        UnsupportedModel: if it is of another family, or does not predict noise or velocity on discrete levels.
    """
    raise_unless_supported(model)
    sampling = model.get_model_object("model_sampling")
    predicts = prediction_type(sampling)
    if predicts is None:
        raise UnsupportedModel(
            f"{_described(model)} samples in another way than Stable Diffusion 1, 2 and XL, which predict noise (eps) "
            "or velocity (v). Connect the MODEL as its checkpoint loader gives it, without ModelSampling nodes of "
            "other families."
        )
    with torch.inference_mode(False):
        sigmas = sampling.sigmas.detach().to("cpu", torch.float64)
        return NoiseSchedule(1 / (1 + sigmas**2), predicts)


def prediction_type(sampling: Any) -> str | None:
    """What a model predicts: "epsilon" or "v_prediction", on discrete noise levels; None for anything else."""
    if not isinstance(sampling, ModelSamplingDiscrete) or sampling.sigma_data != 1.0:
        return None
    return PREDICTION_TYPES.get(type(sampling).calculate_denoised)


def _entries(model: Any) -> dict[str, list]:
    """The weights of the UNet without patches, and their patches, as the host's get_key_patches lists them.

    That one goes by the state dict, which names more than there is where weights are quantised (GGUF, scaled fp8).
    """
    host, entries = model.model, {}
    for name, _ in host.diffusion_model.named_parameters():
        key = PREFIX + name
        if name.rpartition(".")[2] in SCALES:
            continue
        weight, _, convert = comfy.model_patcher.get_key_weight(host, key)
        if key in model.hook_backup:
            weight = model.hook_backup[key][0]
        elif key in model.backup:
            weight = model.backup[key].weight
        entries[key] = [(weight, convert or (lambda plain, **_: plain)), *model.patches.get(key, [])]
    return entries


def _patched(model: Any, entry: list, key: str, dtype: torch.dtype) -> torch.Tensor:
    """A copy of one weight with its patches, computed in float32. `entry` is the host's (weight, convert), patches."""
    (weight, convert), *patches = entry
    if hasattr(weight, "tensor_type"):
        weight = _from_gguf(model.model.get_submodule(key.rpartition(".")[0]), weight)
    weight = comfy.model_management.cast_to_device(weight, torch.device("cpu"), torch.float32, copy=True)
    weight = comfy.lora.calculate_weight(patches, convert(weight, inplace=True), key)
    return weight.to(dtype).contiguous()


def _from_gguf(layer: Any, weight: Any) -> torch.Tensor:
    """A weight of ComfyUI-GGUF, dequantised by its layer, which would apply the patches too."""
    patches, weight.patches = weight.patches, []
    try:
        return layer.get_weight(weight, torch.float32)
    finally:
        weight.patches = patches


def _diffusers_config(model: Any, keys: Mapping[str, str]) -> dict[str, Any]:
    host, config = model.model.diffusion_model, model.model.model_config.unet_config
    levels = len(config["channel_mult"])
    middle = host.get_submodule(_attention_key(keys, "mid_block"))
    heads = []
    for level in range(levels):
        key = _attention_key(keys, f"down_blocks.{level}")
        heads.append(host.get_submodule(key).heads if key else middle.heads)
    groups = {module.num_groups for module in host.modules() if isinstance(module, torch.nn.GroupNorm)}
    if len(groups) > 1 or heads[-1] != middle.heads:
        raise UnsupportedModel(f"{_described(model)} has other norms or heads than Stable Diffusion 1, 2 and XL.")

    def kind(side: str, level: int) -> str:
        plain = "DownBlock2D" if side == "down" else "UpBlock2D"
        return f"CrossAttn{plain}" if _attention_key(keys, f"{side}_blocks.{level}") else plain

    return dict(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        block_out_channels=tuple(config["model_channels"] * factor for factor in config["channel_mult"]),
        down_block_types=tuple(kind("down", level) for level in range(levels)),
        up_block_types=tuple(kind("up", level) for level in range(levels)),
        layers_per_block=_layers(config),
        cross_attention_dim=config["context_dim"],
        attention_head_dim=tuple(heads),  # diffusers' old name for the number of heads
        norm_num_groups=groups.pop(),
        use_linear_projection=config["use_linear_in_transformer"],
        upcast_attention=middle.attn_precision == torch.float32,
        transformer_layers_per_block=tuple(max(1, depth) for depth in config["transformer_depth"][:: _layers(config)]),
        **_additions(model),
    )


def _layers(config: Mapping[str, Any]) -> int:
    return config["num_res_blocks"][0]


def _additions(model: Any) -> dict[str, Any]:
    """What only SDXL's configuration has."""
    if model.model.diffusion_model.num_classes is None:
        return {}
    width = model.model.model_config.unet_config["adm_in_channels"]
    embedded = model.model.embedder.dim
    return dict(
        addition_embed_type="text_time",
        addition_time_embed_dim=embedded,
        projection_class_embeddings_input_dim=width,
    )


def _attention_key(keys: Mapping[str, str], block: str) -> str:
    """The host's name of a block's first self-attention; empty without one."""
    return keys.get(f"{block}.{ATTENTION}.to_q.weight", "").removesuffix(".to_q.weight")


def _described(model: Any) -> str:
    return f"This MODEL is of the family {type(model.model.model_config).__name__} and"


def raise_unless_supported(model: Any) -> None:
    """Raise unless MODEL is a plain Stable Diffusion 1, 2 or XL.

    Raises:
        UnsupportedModel: with its family and what to load instead.
    """
    host, config = model.model.diffusion_model, getattr(model.model.model_config, "unet_config", {})
    advice = "Load a text-to-image checkpoint of Stable Diffusion 1, 2 or XL."
    if not isinstance(host, UNetModel):
        raise UnsupportedModel(f"{_described(model)} has no UNet that can be inflated. {advice}")
    if host.use_temporal_resblocks or config.get("use_temporal_attention"):
        raise UnsupportedModel(f"{_described(model)} is a video model. {advice}")
    if host.num_classes is not None and type(model.model) is not comfy.model_base.SDXL:
        raise UnsupportedModel(f"{_described(model)} takes other things beside the prompt than SDXL's base. {advice}")
    channels = model.model.latent_format.latent_channels
    if (host.in_channels, host.out_channels) != (channels, channels):
        raise UnsupportedModel(
            f"{_described(model)} takes {host.in_channels} channels: an inpainting or instruction model. {advice}"
        )
    if not _is_regular(config):
        raise UnsupportedModel(
            f"{_described(model)} has transformers of another depth, as distilled models have. {advice}"
        )


def _is_regular(config: Mapping[str, Any]) -> bool:
    """Whether all blocks of a level are alike, on the way up as on the way down, and the middle is as the last level.

    The middle of Stable Diffusion 1 has a transformer and the last level none.
    """
    if len(set(config["num_res_blocks"])) > 1:
        return False
    layers, depths = _layers(config), config["transformer_depth"]
    levels = depths[::layers]
    down = [depth for depth in levels for _ in range(layers)]
    up = [depth for depth in levels for _ in range(layers + 1)]
    return (
        depths == down
        and config["transformer_depth_output"] == up
        and config["transformer_depth_middle"] == max(1, levels[-1])
    )


def _raise_if_code_is_patched(model: Any) -> None:
    """The copy includes patches of weights. It cannot include patches of the sampling code."""
    options = model.model_options
    found = {key for key, value in options.items() if key != "transformer_options" and value}
    found |= {key for key, value in options.get("transformer_options", {}).items() if value}
    found |= {key for key in model.object_patches if not key.startswith("model_sampling")}
    found |= {str(kind) for kind, wrappers in model.wrappers.items() if any(wrappers.values())}
    found |= {*model.injections, *model.weight_wrapper_patches}
    if found:
        logging.info(f"Tune-A-Video: MODEL carries {', '.join(sorted(found))}.")
        raise UnsupportedModel(
            f"{_described(model)} carries changes that act while ComfyUI samples, such as those of IP-Adapter, FreeU "
            "or a guidance node. They cannot be tuned: connect the MODEL from before that node. LoRAs are supported."
        )
