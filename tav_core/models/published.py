"""UNets of the published implementation, as people share tuned ones: a folder of a UNet3DConditionModel.

Its tensors have the names of an inflated UNet, those of the image model and of the temporal attention in one file. The
untuned image model is not among them: queries stay as they were tuned, whatever the strength.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from ..unet.inflate import OWN_WEIGHTS
from .folder import check_size, find_variant

CLASS = "UNet3DConditionModel"  # also of text-to-video models, whose tensors have other names
TEMPORAL = (".attn_temp.", ".norm_temp.")
_BLOCKS = ("down_block_types", "mid_block_type", "up_block_types")


def is_published(part: Path, config: dict[str, Any]) -> bool:
    """Whether a folder holds a UNet of the published implementation."""
    if part.name != "unet" or config.get("_class_name") != CLASS:
        return False
    return any(".attn_temp." in name for name in _names(part))


def read_published(part: Path, config: dict[str, Any], dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet, on the CPU. `inflate` takes its temporal attention from the file in place of an untuned one.

    Arguments:
        part: the folder of the UNet.
        config: its configuration.
        dtype: of the weights.

    Raises:
        ValueError: the weights do not fit the configuration.
    """
    kinds = {key: _of_images(config[key]) for key in _BLOCKS if config.get(key)}
    known = {key: value for key, value in config.items() if not key.startswith("_")} | kinds
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(known)
    check_size(part, unet)
    tensors: dict[str, Tensor] = {}
    for file in _files(part):
        tensors |= load_file(file)
    temporal = {name: tensors.pop(name) for name in list(tensors) if any(mark in name for mark in TEMPORAL)}
    missing, unknown = unet.load_state_dict(tensors, strict=False, assign=True)
    if missing or unknown:
        raise ValueError(
            f"the weights lack {len(missing)} tensors and have {len(unknown)} unknown ones, such as "
            f"{min([*missing, *unknown])}."
        )
    unet.to(dtype)
    vars(unet)[OWN_WEIGHTS] = temporal
    return unet


def _of_images(kinds: Any) -> Any:
    """The names of diffusers' blocks of images in place of those of the published blocks of clips."""
    return [_of_images(kind) for kind in kinds] if isinstance(kinds, list) else str(kinds).replace("3D", "2D")


def _files(part: Path) -> list[Path]:
    """The weights, in one file or in shards, of the variant that is there."""
    middle = f".{variant}" if (variant := find_variant(part)) else ""
    index = part / f"diffusion_pytorch_model.safetensors.index{middle}.json"
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [part / name for name in sorted({*shards})]
    return [part / f"diffusion_pytorch_model{middle}.safetensors"]


def _names(part: Path) -> set[str]:
    """Of all tensors, from the headers of the files."""
    names: set[str] = set()
    for file in part.glob("*.safetensors"):
        with file.open("rb") as header:
            length = int.from_bytes(header.read(8), "little")
            names |= json.loads(header.read(min(length, 2**26))).keys()
    return names
