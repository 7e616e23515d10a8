"""The weights that tuning trains (arXiv:2212.11565, section 3.3), and their strength."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..checks import check_number
from .block import SpatioTemporalBlock
from .low_rank import DOWN, UP, draw_low_rank, products

MAX_STRENGTH = 100
TRAINED = (
    "attn1.to_q", "attn2.to_q", "attn_temp.to_q", "attn_temp.to_k", "attn_temp.to_v", "attn_temp.to_out.0"
)  # fmt: skip
TEMPORAL, TEMPORAL_OUTPUT = ".attn_temp.", ".attn_temp.to_out."
TEMPORAL_SEED = 0
WRAPPED, LORA = ".base_layer", ".lora_"  # peft's names for the layer inside its own, and for what it adds


def trained_layers(unet: nn.Module) -> list[str]:
    """The names of the layers that tuning trains, as published."""
    blocks = [name for name, module in unet.named_modules() if isinstance(module, SpatioTemporalBlock)]
    names = dict(unet.named_modules())
    return [f"{block}.{layer}" for block in blocks for layer in TRAINED if f"{block}.{layer}" in names]


class Adapter:
    """One set of weights of a UNet, which is tuned, saved, loaded, reset and scaled together.

    At first the published set: the query projections of both old attentions, and the whole temporal attention.
    `choose` takes another. A weight has the name that it has without a LoRA of peft around its layer.

    Arguments:
        unet: the inflated UNet.
        blocks: its spatio-temporal blocks by their name, with the image model's queries in them.
        low_rank: whether its layers carry the updates of `low_rank.py`, which are the set at first.

    Attributes:
        names: of the weights in the set.
        of_the_image_model: names of all weights of the image model, in the set or not.
        base: the untuned weights by name, on the CPU, from which strength is measured. Those of the temporal attention
            are left out: its output projection is zero at first, and the others act through it alone.
    """

    def __init__(self, unet: nn.Module, blocks: Mapping[str, SpatioTemporalBlock], low_rank: bool = False):
        self.unet, self.low_rank = unet, low_rank
        self.blocks = dict(blocks)
        kinds = (DOWN, UP) if low_rank else (".weight", ".bias")
        # In the order of the published list.
        known = [f"{block}.{layer}{kind}" for block in blocks for layer in TRAINED for kind in kinds]
        weights = self._all()
        self.of_the_image_model = {name for name in weights if TEMPORAL not in name and LORA not in name}
        self._published = [name for name in known if name in weights]
        self._temporal = {name for name in self._published if TEMPORAL in name}
        self.names = list(self._published)
        self.base: dict[str, Tensor] = {}
        self._remember(weights)
        self._scale = 1.0
        self._tuned: dict[str, Tensor] | None = None  # the tuning at strength 1, while another one is applied

    @property
    def is_published(self) -> bool:
        """Whether the set is the published one."""
        return self.names == self._published

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the set by their name in the UNet."""
        weights = self._all()
        if gone := [name for name in self.names if name not in weights]:
            raise ValueError(f"The UNet has lost {gone[0]}, which tuning trains: put its layer back, or call reset().")
        return {name: weights[name] for name in self.names}

    def choose(self, names: Iterable[str]) -> None:
        """Take another set. Weights that are tuned already stay in it, so that it holds all that is not untuned.

        Their present values are the untuned ones, from which strength is measured.

        Arguments:
            names: of parameters of the UNet, with or without ".base_layer". A mapping gives its keys.

        Raises:
            ValueError: there is none, or the UNet has no such parameter.
        """
        chosen = list(self.find(names))
        if chosen == self.names:
            return
        self.freeze_scale()
        if self.is_tuned():
            chosen = [*self.names, *(name for name in chosen if name not in self.names)]
        self.names = chosen
        self._remember(self._all())

    def find(self, names: Iterable[str]) -> dict[str, nn.Parameter]:
        """Parameters of the UNet, in the set or not, by their names without peft's wrapper.

        Raises:
            ValueError: there is none, or the UNet has no such parameter.
        """
        if isinstance(names, str):
            raise TypeError(f'parameters are several names: give a list, ["{names}"].')
        chosen, weights = dict.fromkeys(str(name).replace(WRAPPED, "") for name in names), self._all()
        remedy = "give names of `video_unet.unet.named_parameters()`."
        if not chosen:
            raise ValueError(f"parameters names no weight: {remedy}")
        if unknown := [name for name in chosen if name not in weights]:
            raise ValueError(f"The UNet has no parameter {unknown[0]!r}: {remedy}")
        return {name: weights[name] for name in chosen}

    def is_tuned(self) -> bool:
        """Whether a weight of the set differs from the untuned one."""
        weights = self.parameters()
        for name, weight in weights.items():
            if name in self.base and not torch.equal(weight.detach().cpu(), self.base[name].to(weight.dtype)):
                return True
            if name not in self.base and self._is_output(name) and weight.detach().any():
                return True
        return False

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the weights as they are now, on the CPU."""
        with torch.inference_mode(False):
            return {name: weight.detach().to("cpu", copy=True) for name, weight in self.parameters().items()}

    def reset(self) -> None:
        """Go back to the untuned weights and the published set: a temporal attention that adds nothing."""
        with torch.inference_mode(False), torch.no_grad():
            weights = self._all()
            for name in self.base.keys() & weights.keys():  # a LoRA may have been removed
                weights[name].copy_(self.base[name])
            generator = torch.Generator().manual_seed(TEMPORAL_SEED)
            for block in self.blocks.values():
                block.initialise_temporal(generator)
            if self.low_rank:
                draw_low_rank(self.unet, generator)
        self.names = list(self._published)
        self.freeze_scale()

    def load(self, tensors: Mapping[str, Tensor], scale: float = 1.0, *, own_set: bool = False) -> None:
        """Load tuned weights at a strength: base + scale (tuned - base), all of them or none.

        The untuned weights are `base`, and zero for the temporal output projection; the other temporal weights, which
        act through it alone, are taken as they are. At 0 the model computes what the image model does.

        Arguments:
            tensors: tuned weights by name, any floating type, on the CPU or the model's device.
            scale: 1 for the tuned weights to the bit, 0 for the image model; others extend or fade the tuning.
            own_set: take the set of these tensors, whichever it is. Otherwise it must be the present set or the
                published one.

        Raises:
            ValueError: if names or shapes are not the model's, or a number is not finite.
        """
        check_number("strength", scale, -MAX_STRENGTH, MAX_STRENGTH)
        names = self.raise_unless_ours(tensors, own_set=own_set)
        if names != self.names:
            self.reset()
            self.choose(names)
        self._apply(tensors, scale)
        self._scale, self._tuned = scale, None if scale == 1 else dict(tensors)

    @property
    def scale(self) -> float:
        """The strength of the tuning that was loaded or trained last. Each value is applied to that tuning anew."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        check_number("strength", scale, -MAX_STRENGTH, MAX_STRENGTH)
        if scale == self._scale:
            return
        if self._tuned is None:
            self._tuned = self.state_dict()
        self._apply(self._tuned, scale)
        self._scale = scale

    @property
    def tuned(self) -> dict[str, Tensor]:
        """The weights of the tuning at strength 1, on the CPU, whichever strength is applied."""
        return self.state_dict() if self._tuned is None else dict(self._tuned)

    def differences(self) -> dict[str, Tensor]:
        """What the tuning at strength 1 added to each weight, float32 on the CPU, by the weights' names.

        Weights that have no untuned value, those of the temporal attention, are left out.
        """
        tuned = self.tuned
        whole = {name: weight.float() - self.base[name].float() for name, weight in tuned.items() if name in self.base}
        return whole | products(tuned)

    def freeze_scale(self) -> None:
        """Let the weights as they are now be the tuning at strength 1."""
        self._scale, self._tuned = 1.0, None

    def raise_unless_ours(self, tensors: Mapping[str, Tensor], *, own_set: bool = False) -> list[str]:
        """Check that tuned weights belong to this model.

        Returns:
            Their names, in the order of the set.

        Raises:
            ValueError: if names or shapes are not the model's, or a number is not finite.
        """
        weights, given = self._all(), tensors.keys()
        sets = [self.names, self._published, *([list(given)] if own_set else [])]
        names = next((names for names in sets if set(names) == given), self.names)
        missing, unknown = set(names) - given, (given - set(names)) | (given - weights.keys())
        if missing or unknown:
            example = min(missing | unknown)
            raise ValueError(
                f"These tuned weights belong to another model: {len(missing)} tensors are missing and {len(unknown)} "
                f"unknown, such as {example}. Load the base model that was tuned."
            )
        for name in names:
            if tensors[name].shape != weights[name].shape:
                raise ValueError(
                    f"These tuned weights belong to another model: {name} has shape {tuple(tensors[name].shape)}, "
                    f"this model's is {tuple(weights[name].shape)}. Load the base model that was tuned."
                )
            if not torch.isfinite(tensors[name]).all():
                raise ValueError(f"{name} holds a number that is not finite: the tuning diverged. Tune again.")
        return list(names)

    def _apply(self, tensors: Mapping[str, Tensor], scale: float) -> None:
        with torch.inference_mode(False), torch.no_grad():
            for name, parameter in self.parameters().items():
                tuned = tensors[name].to(device=parameter.device, dtype=parameter.dtype)
                if name in self.base:
                    tuned = torch.lerp(self.base[name].to(tuned), tuned, scale)
                elif self._is_output(name):
                    tuned = scale * tuned
                parameter.copy_(tuned)

    def _all(self) -> dict[str, nn.Parameter]:
        """All parameters of the UNet by name."""
        return {name.replace(WRAPPED, ""): parameter for name, parameter in self.unet.named_parameters()}

    def _remember(self, weights: Mapping[str, Tensor]) -> None:
        """Keep the untuned values of all weights in the set that cannot be made anew."""
        for name in self.names:
            if name not in self.base and not self._acts_through_zero(name):
                self.base[name] = weights[name].detach().to("cpu", copy=True)

    def _is_output(self, name: str) -> bool:
        """Whether a weight is zero untuned, and others act through it alone."""
        if self.low_rank and (TEMPORAL not in name or TEMPORAL_OUTPUT in name):
            return name.endswith(UP)
        return TEMPORAL_OUTPUT in name

    def _acts_through_zero(self, name: str) -> bool:
        """Whether a weight is zero untuned, or acts through one that is and that is in the set too."""
        if self.low_rank and name.endswith((DOWN, UP)):
            return name.removesuffix(DOWN).removesuffix(UP) + UP in self.names
        block = name.partition(TEMPORAL)[0]
        return name in self._temporal and f"{block}{TEMPORAL_OUTPUT}0.weight" in self.names
