"""The weights that tuning trains (arXiv:2212.11565, section 3.3), and their strength."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..checks import check_number
from .block import SpatioTemporalBlock
from .modules import base_layer

MAX_STRENGTH = 100
TRAINED = (
    "attn1.to_q", "attn2.to_q", "attn_temp.to_q", "attn_temp.to_k", "attn_temp.to_v", "attn_temp.to_out.0"
)  # fmt: skip
TEMPORAL, TEMPORAL_OUTPUT = ".attn_temp.", ".attn_temp.to_out."
TEMPORAL_SEED = 0


class QueryTemporal:
    """As published: the query projections of both old attentions, and the whole temporal attention.

    Arguments:
        blocks: the spatio-temporal blocks by their name in the UNet, with the image model's queries in them.

    Attributes:
        base_queries: these queries by name, on the CPU. Strength is measured from them.
    """

    def __init__(self, blocks: Mapping[str, SpatioTemporalBlock]):
        self.blocks = dict(blocks)
        self.base_queries = {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in self.parameters().items()
            if TEMPORAL not in name
        }
        self._scale = 1.0
        self._tuned: dict[str, Tensor] | None = None  # the tuning at strength 1, while another one is applied

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by their name in the UNet, the published list. A LoRA on these layers is not among them."""
        return {
            f"{block_name}.{layer}.{name}": parameter
            for block_name, block in self.blocks.items()
            for layer in TRAINED
            for name, parameter in base_layer(block.get_submodule(layer)).named_parameters()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the weights as they are now, on the CPU."""
        with torch.inference_mode(False):
            return {name: weight.detach().to("cpu", copy=True) for name, weight in self.parameters().items()}

    def reset(self) -> None:
        """Go back to the untuned weights: the image model's queries, and a temporal attention that adds nothing."""
        with torch.inference_mode(False), torch.no_grad():
            parameters = self.parameters()
            for name, base in self.base_queries.items():
                parameters[name].copy_(base)
            generator = torch.Generator().manual_seed(TEMPORAL_SEED)
            for block in self.blocks.values():
                block.initialise_temporal(generator)
        self.freeze_scale()

    def load(self, tensors: Mapping[str, Tensor], scale: float = 1.0) -> None:
        """Load tuned weights at a strength: base + scale (tuned - base), all of them or none.

        For the queries base is `base_queries`, for the temporal output projection it is zero; the other temporal
        weights, which act through it alone, are taken as they are. At 0 the model computes what the image model does.

        Arguments:
            tensors: tuned weights by name, any floating type, on the CPU or the model's device.
            scale: 1 for the tuned weights to the bit, 0 for the image model; others extend or fade the tuning.

        Raises:
            ValueError: if names or shapes are not the model's, or a number is not finite.
        """
        check_number("strength", scale, -MAX_STRENGTH, MAX_STRENGTH)
        self.raise_unless_ours(tensors)
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

    def freeze_scale(self) -> None:
        """Let the weights as they are now be the tuning at strength 1."""
        self._scale, self._tuned = 1.0, None

    def _apply(self, tensors: Mapping[str, Tensor], scale: float) -> None:
        with torch.inference_mode(False), torch.no_grad():
            for name, parameter in self.parameters().items():
                tuned = tensors[name].to(device=parameter.device, dtype=parameter.dtype)
                if name in self.base_queries:
                    tuned = torch.lerp(self.base_queries[name].to(tuned), tuned, scale)
                elif TEMPORAL_OUTPUT in name:
                    tuned = scale * tuned
                parameter.copy_(tuned)

    def raise_unless_ours(self, tensors: Mapping[str, Tensor]) -> None:
        """Check that tuned weights belong to this model.

        Raises:
            ValueError: if names or shapes are not the model's, or a number is not finite.
        """
        parameters = self.parameters()
        missing, unknown = parameters.keys() - tensors.keys(), tensors.keys() - parameters.keys()
        if missing or unknown:
            example = min(missing | unknown)
            raise ValueError(
                f"These tuned weights belong to another model: {len(missing)} tensors are missing and {len(unknown)} "
                f"unknown, such as {example}. Load the base model that was tuned."
            )
        for name, parameter in parameters.items():
            if tensors[name].shape != parameter.shape:
                raise ValueError(
                    f"These tuned weights belong to another model: {name} has shape {tuple(tensors[name].shape)}, "
                    f"this model's is {tuple(parameter.shape)}. Load the base model that was tuned."
                )
            if not torch.isfinite(tensors[name]).all():
                raise ValueError(f"{name} holds a number that is not finite: the tuning diverged. Tune again.")
