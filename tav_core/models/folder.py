"""Checks of a model folder before diffusers or transformers read it: complete, without pickled weights, and with a
configuration that fits the size of its files. Neither library limits the network that a configuration describes, and
both open pickled weights if a list of shards names them.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from torch import nn

NETWORKS = ("unet", "vae", "text_encoder")
PARTS = (*NETWORKS, "tokenizer", "scheduler")
SECOND = ("text_encoder_2", "tokenizer_2")  # of SDXL beside these
CONVERT = "convert them with save_pretrained(safe_serialization=True), and keep the .safetensors files alone"
LARGEST_NUMBER = 2**20  # in a configuration; the largest in use is a vocabulary of some 50,000
LARGEST_COUNT = 64  # of layers and blocks; the largest in use is 32
ATTENTION = (None, "eager", "sdpa")  # transformers would download other implementations
# Parts of the names of pipelines, and kinds of UNets by their number of input channels
_OTHER_PIPELINES = {
    "Cascade": "a cascade", "Wuerstchen": "a cascade", "Kandinsky": "a cascade", "IFPipeline": "a cascade",
    "Inpaint": "an inpainting model", "StableDiffusion3": "a flow-matching model", "Flux": "a flow-matching model",
    "Pix2Pix": "an InstructPix2Pix model", "Depth2Img": "a depth model", "Upscale": "an upscaling model",
}  # fmt: skip
# By the number of channels of the UNet's input, as text.
INPUTS = {"9": "an inpainting model", "8": "an InstructPix2Pix model", "5": "a depth model", "7": "an upscaling model"}
COUNTS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers")


class ModelError(ValueError):
    """A model folder that cannot be used, with the reason and the remedy."""


def check_folder(folder: Path) -> None:
    """Raise if a folder lacks a part, or if reading it would open pickled weights.

    Raises:
        ModelError: with the reason and the remedy.
    """
    if not folder.is_dir():
        raise ModelError(
            f"There is no model folder at {folder}. "
            'Give a local folder in diffusers\' layout, or "demo" for the bundled model.'
        )
    _raise_unless_stable_diffusion(folder)
    parts = parts_of(folder)
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise ModelError(
            f"{folder} is not a model in diffusers' layout: it lacks {', '.join(missing)}. "
            f"Expected folders: {', '.join(parts)}."
        )
    for part in filter(is_network, parts):
        if not any((folder / part).glob("*.safetensors")):
            raise ModelError(
                f"{folder / part} holds no .safetensors weights. "
                f"Pickled .bin weights are never opened, nor .ckpt: {CONVERT}."
            )
        if (folder / part / "adapter_config.json").exists():
            raise ModelError(
                f"{folder / part} holds an adapter, which may name another model to load: merge it into the weights, "
                "and remove adapter_config.json."
            )


def parts_of(folder: Path) -> tuple[str, ...]:
    """The names of the parts that a model in diffusers' layout has: SDXL has a second text encoder."""
    is_xl = _stated(folder / "unet" / "config.json", "addition_embed_type") == "text_time"
    return PARTS + SECOND if is_xl else PARTS


def is_network(part: str) -> bool:
    """Whether a part of a model has weights."""
    return part in (*NETWORKS, SECOND[0])


def find_variant(part: Path) -> str | None:
    """The variant of a network's weights, such as "fp16", if there are none without; of several, fp16 or the first."""
    names = [file.name for file in part.glob("*.safetensors*")]
    if any(re.fullmatch(r"[^.]+\.safetensors(\.index\.json)?", name) for name in names):
        return None
    # NAME.fp16.safetensors; in shards NAME.fp16-00001-of-00002.safetensors, of older versions NAME-00001-of-00002.fp16.
    found = {match[1] for name in names if (match := re.fullmatch(r"[^.]+\.([^.]+?)(-\d+-of-\d+)?\.safetensors", name))}
    return "fp16" if "fp16" in found else min(found, default=None)


def _raise_unless_stable_diffusion(folder: Path) -> None:
    """Raise if the folder's own files name a pipeline, a network or a scheduler of another kind of model.

    Raises:
        ModelError: with the kind.
    """
    for file, key, kinds in (
        ("model_index.json", "_class_name", _OTHER_PIPELINES),
        ("scheduler/scheduler_config.json", "_class_name", {"Flow": "a flow-matching model", "EDM": "an EDM model"}),
        ("scheduler/scheduler_config.json", "prediction_type", {"flow": "a flow-matching model"}),
        ("transformer/config.json", "_class_name", {"": "a diffusion transformer"}),
    ):
        value = _stated(folder / file, key)
        kind = None if value is None else next((name for part, name in kinds.items() if part in value), None)
        if kind is not None:
            raise ModelError(_not_taken(folder, f"{kind} ({value})"))
    channels = _stated(folder / "unet" / "config.json", "in_channels")
    if channels in INPUTS:
        raise ModelError(_not_taken(folder, f"{INPUTS[channels]} ({channels} input channels)"))
    if _stated(folder / "unet" / "config.json", "projection_class_embeddings_input_dim") == "2560":
        raise ModelError(_not_taken(folder, "the SDXL refiner"))


def _not_taken(folder: Path, kind: str) -> str:
    return (
        f"The model in {folder} is {kind}, which Tune-A-Video does not take: give one of Stable Diffusion 1, 2 or XL."
    )


def _stated(file: Path, key: str) -> str | None:
    """A value of a JSON file as text; None if it is not there, or the file cannot be read, as is found later."""
    try:
        value = _read_json(file).get(key)
    except (OSError, ValueError, RecursionError):
        return None
    return None if value is None else str(value)


def check_network(part: Path) -> dict[str, Any]:
    """Raise unless all shards are safetensors files of this folder and the configuration is within limits.

    Returns:
        The configuration.

    Raises:
        ValueError: with the reason.
    """
    for index in part.glob("*.index*.json"):
        for shard in {*_read_json(index).get("weight_map", {}).values()}:
            if Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise ValueError(f"{index.name} names {shard!r}. Weights in other files are never opened: {CONVERT}.")
    config = _read_json(part / "config.json")
    for key in ("attn_implementation", "_attn_implementation"):
        if config.get(key) not in ATTENTION:
            raise ValueError(f"config.json has {key} = {config[key]!r}, which is never downloaded: remove that line.")
    for key, value in config.items():
        if isinstance(value, list) and len(value) > LARGEST_COUNT:
            raise ValueError(f"config.json lists {len(value)} of {key}; at most {LARGEST_COUNT} are supported.")
        check_numbers(key, value, LARGEST_COUNT if key in COUNTS else LARGEST_NUMBER)
    return config


def check_scheduler(part: Path) -> None:
    """Raise if a scheduler's configuration has numbers beyond the limit, such as 10^12 timesteps.

    Raises:
        ValueError: with the reason.
    """
    for key, value in _read_json(part / "scheduler_config.json").items():
        check_numbers(key, value, LARGEST_NUMBER)


def check_numbers(key: str, value: Any, largest: int) -> None:
    """Raise if a value of a configuration, or one of a list, is infinite or larger than `largest`.

    Raises:
        ValueError: with the key and the value.
    """
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, (int, float)) and not (math.isfinite(number) and abs(number) <= largest):
            raise ValueError(f"its configuration has {key} = {number}; at most {largest} is supported.")


def check_size(part: Path, empty: nn.Module) -> None:
    """Raise if a configuration describes a network with more weights than the weights' files have bytes.

    Arguments:
        part: the folder of the weights.
        empty: the network that the configuration describes, on the meta device.

    Raises:
        ValueError: with both sizes.
    """
    numbers = sum(parameter.numel() for parameter in empty.parameters())
    size = sum(file.stat().st_size for file in part.glob("*.safetensors"))
    if numbers > size:
        raise ValueError(f"config.json describes {numbers} weights, and the files hold {size} bytes.")


def _read_json(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds no JSON object.")
    return content
