"""Low-rank updates of the layers that tuning trains, on peft (LoRA, Hu et al., arXiv:2106.09685).

A layer computes W x + B A x: W is frozen, A (rank, in) is drawn and B (out, rank) is zero at first, so that nothing
changes until they are tuned. Fewer weights train, and their moments and files shrink with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

NAME = "tune_a_video"  # of the adapter in peft's layers
DOWN, UP = f".lora_A.{NAME}.weight", f".lora_B.{NAME}.weight"
MAX_RANK = 1024


def add_low_rank(unet: nn.Module, layers: Iterable[str], rank: int) -> None:
    """Put low-rank updates on linear layers of a UNet, in place. `draw_low_rank` must be called before the first use.

    Arguments:
        layers: their names.
        rank: of the updates; that of a smaller layer is its smaller side.

    Raises:
        ImportError: peft is not installed.
        ValueError: a layer carries a LoRA already.
    """
    if find_spec("peft") is None:
        raise ImportError("lora_rank needs peft: pip install peft, or leave lora_rank out.")
    from peft import LoraConfig, inject_adapter_in_model

    names = list(layers)
    for name in names:
        layer = unet.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} carries a LoRA already: merge it into the weights, or leave lora_rank out.")
    with torch.random.fork_rng(devices=[]):  # peft draws from the global generator
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), unet, adapter_name=NAME)


def draw_low_rank(unet: nn.Module, generator: torch.Generator) -> None:
    """Draw A as nn.Linear does, and set B to zero: updates that change nothing.

    Arguments:
        generator: a CPU generator, so that the weights are the same on every device.
    """
    for name, parameter in unet.named_parameters():
        if name.endswith(DOWN):
            bound = parameter.shape[1] ** -0.5
            parameter.data.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
        elif name.endswith(UP):
            parameter.data.zero_()


def products(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The updates B A, float32, by the names of the weights that they are added to."""
    return {
        name.removesuffix(UP) + ".weight": up.float() @ tensors[name.removesuffix(UP) + DOWN].float()
        for name, up in tensors.items()
        if name.endswith(UP)
    }


def merged(layer: nn.Module) -> dict[str, Tensor]:
    """The parameters that a layer computes with, by name: those of the plain layer, with its update added."""
    parameters = dict(layer.named_parameters())
    plain = {name.removeprefix("base_layer."): p for name, p in parameters.items() if ".lora_" not in f".{name}"}
    if UP.removeprefix(".") in parameters:
        update = parameters[UP.removeprefix(".")].float() @ parameters[DOWN.removeprefix(".")].float()
        plain["weight"] = plain["weight"].float() + update  # type: ignore[assignment]
    return dict(plain)
