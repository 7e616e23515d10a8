"""What a model folder must be before diffusers or transformers read it: whole, without pickled weights, and of a size
that its files bear out. Neither library bounds what a configuration makes it build, and both open pickled weights if a
list of shards names them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from torch import nn

NETWORKS = ("unet", "vae", "text_encoder")
PARTS = (*NETWORKS, "tokenizer", "scheduler")
CONVERT = "convert them with save_pretrained(safe_serialization=True), and keep the .safetensors files alone"
LARGEST_NUMBER = 2**20  # in a configuration; the largest in use is a vocabulary's size of some 50,000
LARGEST_COUNT = 64  # of layers and blocks; the largest in use is 32
ATTENTION = (None, "eager", "sdpa")  # transformers would fetch other implementations from the network
COUNTS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers")


class ModelError(ValueError):
    """A model folder that cannot be used, with the reason and the remedy."""


def check_folder(folder: Path) -> None:
    """Refuse a folder that lacks a part or would have pickled weights opened, before anything is read.

    Raises:
        ModelError: with the reason and the remedy.
    """
    if not folder.is_dir():
        raise ModelError(
            f"There is no model folder at {folder}. "
            'Give a local folder in diffusers\' layout, or "demo" for the bundled model.'
        )
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ModelError(
            f"{folder} is not a model in diffusers' layout: it lacks {', '.join(missing)}. "
            f"Expected folders: {', '.join(PARTS)}."
        )
    for part in NETWORKS:
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


def check_network(part: Path) -> dict[str, Any]:
    """Refuse shards that are no safetensors files of this folder, and a configuration beyond reason.

    Returns:
        The configuration.

    Raises:
        ValueError: with the reason.
    """
    for index in part.glob("*.index.json"):
        for shard in {*_read_json(index).get("weight_map", {}).values()}:
            if Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise ValueError(f"{index.name} names {shard!r}. Weights in other files are never opened: {CONVERT}.")
    config = _read_json(part / "config.json")
    for key in ("attn_implementation", "_attn_implementation"):
        if config.get(key) not in ATTENTION:
            raise ValueError(f"config.json says {key} = {config[key]!r}, which is never fetched: remove that line.")
    for key, value in config.items():
        values = value if isinstance(value, list) else [value]
        if len(values) > LARGEST_COUNT:
            raise ValueError(f"config.json lists {len(values)} of {key}; at most {LARGEST_COUNT} are supported.")
        check_numbers(key, values, LARGEST_COUNT if key in COUNTS else LARGEST_NUMBER)
    return config


def check_scheduler(part: Path) -> None:
    """Refuse a schedule with numbers beyond reason, such as 10^12 timesteps, for each of which there is a level.

    Raises:
        ValueError: with the reason.
    """
    for key, value in _read_json(part / "scheduler_config.json").items():
        check_numbers(key, value if isinstance(value, list) else [value], LARGEST_NUMBER)


def check_numbers(key: str, values: list[Any], largest: int) -> None:
    """Refuse a value of a configuration that is infinite or beyond `largest`.

    Raises:
        ValueError: with the key and the value.
    """
    for value in values:
        if isinstance(value, (int, float)) and not (math.isfinite(value) and abs(value) <= largest):
            raise ValueError(f"its configuration says {key} = {value}; at most {largest} is supported.")


def check_size(part: Path, empty: nn.Module) -> None:
    """Refuse a configuration whose network holds more numbers than the weights' files have bytes.

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
