"""The temporal attention of all transformer blocks, made of the host's layers, for the host's memory management."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.ops
import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor, nn

LAYERS = {  # names in the host's module: those in the inflated block
    "norm": "norm_temp",
    "to_q": "attn_temp.to_q",
    "to_k": "attn_temp.to_k",
    "to_v": "attn_temp.to_v",
    "to_out": "attn_temp.to_out.0",
}


class TemporalBlock(nn.Module):
    """The temporal attention of one transformer block, with its norm and without the residual.

    Arguments:
        block: the inflated block whose weights are copied, in the type `dtype`.
        scale: of the output projection, the strength of the tuning.
    """

    def __init__(self, block: nn.Module, scale: float, dtype: torch.dtype):
        super().__init__()
        made: Any = comfy.ops.manual_cast
        attn: Any = block.attn_temp
        inner, width = attn.to_q.weight.shape
        self.heads, self.temporal_positions = attn.heads, block.temporal_positions
        self.norm = made.LayerNorm(width, eps=block.norm_temp.eps, dtype=dtype)
        self.to_q = made.Linear(width, inner, bias=False, dtype=dtype)
        self.to_k = made.Linear(width, inner, bias=False, dtype=dtype)
        self.to_v = made.Linear(width, inner, bias=False, dtype=dtype)
        self.to_out = made.Linear(inner, width, dtype=dtype)
        weights = {f"{ours}.{kind}": weight for ours, kind, weight in _weights(block)}
        for kind in ("weight", "bias"):
            weights[f"to_out.{kind}"] = scale * weights[f"to_out.{kind}"]
        self.load_state_dict(weights)
        self.requires_grad_(False)

    def forward(self, hidden_states: Tensor, num_frames: int, precision: Any, options: Mapping[str, Any]) -> Tensor:
        """Hidden states after the block (b f, s, c) to what is added to them.

        Arguments:
            num_frames: f.
            precision: the host's type of this block's attention, None for that of the hidden states.
            options: the host's transformer_options.
        """
        from ....tav_core.unet.attention import temporal_attention
        from ....tav_core.unet.block import add_positions

        normed = self.norm(hidden_states)
        if self.temporal_positions:
            normed = add_positions(normed, num_frames)
        projected = self.to_q(normed), self.to_k(normed), self.to_v(normed)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return optimized_attention(
                query, key, value, self.heads, attn_precision=precision, transformer_options=options
            )

        return self.to_out(temporal_attention(*projected, num_frames, attend=attend))


def _weights(block: nn.Module) -> list[tuple[str, str, Tensor]]:
    """Name of the layer here, "weight" or "bias", and the value, of a block's temporal layers, updates included."""
    from ....tav_core.unet.low_rank import merged

    return [
        (ours, kind, value.detach().cpu().float())
        for ours, theirs in LAYERS.items()
        for kind, value in merged(block.get_submodule(theirs)).items()
    ]


class TemporalLayers(nn.Module):
    """The temporal attentions of a model by the place of their block in the host's UNet.

    Arguments:
        blocks: inflated blocks by that place, such as "input_blocks.1.1.transformer_blocks.0".
        scale, dtype: see `TemporalBlock`.
    """

    def __init__(self, blocks: Mapping[str, nn.Module], scale: float, dtype: torch.dtype):
        super().__init__()
        self.device = None  # the host writes it
        self.layers = nn.ModuleDict(
            {_key(place): TemporalBlock(block, scale, dtype) for place, block in blocks.items()}
        )

    def at(self, place: str) -> TemporalBlock:
        """The temporal attention after the block at a place."""
        layer = self.layers[_key(place)]
        assert isinstance(layer, TemporalBlock)
        return layer


def _key(place: str) -> str:
    """A place as the name of a module, which holds no dot."""
    return place.replace(".", "_")
