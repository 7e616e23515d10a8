"""The spatio-temporal transformer block of Tune-A-Video (arXiv:2212.11565, section 3.2, "Network Inflation").

For a clip z_1 .. z_f the image model's block becomes, in this order,

    attn1      sparse-causal attention   Q = W_q z_i,  K = W_k [z_1, z_{i-1}],  V = W_v [z_1, z_{i-1}]
    attn2      cross-attention           from each frame to the text, as in the image model
    ff         feed-forward              as in the image model
    attn_temp  temporal attention        new: each position attends to itself in all frames

Inside a block hidden states are (b f, s, c) with s = h w positions of one frame. After attn1 no position needs another
one, so that all that follows is done for some positions at once, of all frames.
"""

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from .attention import CrossAttention, SelfAttention, SparseCausalAttention, TemporalAttention
from .checkpointing import checkpoint_around_attention, checkpoint_cheap, checkpoint_whole
from .frames import FrameContext
from .modules import base_layer
from .positions import sinusoidal_positions

ATTENTION_MODES = ("sparse_causal", "per_frame")
# Positions, of all frames together, that are computed at once where none needs another: few of them stay in the caches
# of a CPU, and the eightfold width of a feed-forward makes no large tensor.
POSITIONS_AT_ONCE = 1024
MOST_PIECES = 4


class SpatioTemporalBlock(nn.Module):
    """A transformer block of the image model, made to see a clip.

    It adopts the children of the block that it replaces under their old names (`norm1`, `attn1`, `norm2`, `attn2`,
    `norm3`, `ff`) and adds `norm_temp` and `attn_temp`, whose weights rest in float32 or finer. `initialise_temporal`
    must be called before the first use: these weights are allocated, not drawn.

    Arguments:
        block: the block to replace; its children are shared, not copied.
        context: shared by the whole model.
        attention: "sparse_causal", or "per_frame" for the image model's own self-attention (an ablation).
        temporal_positions: whether the temporal attention is given the position of each frame in the clip.
        temporal: False to leave the temporal attention out (an ablation); `attn_temp` is None then.
    """

    def __init__(
        self,
        block: BasicTransformerBlock,
        context: FrameContext,
        attention: str,
        temporal_positions: bool = False,
        temporal: bool = True,
    ):
        super().__init__()
        to_frames = SparseCausalAttention if attention == "sparse_causal" else SelfAttention
        self.norm1, self.attn1 = block.norm1, to_frames(block.attn1, context)
        self.norm2, self.attn2 = block.norm2, CrossAttention(block.attn2, context)
        self.norm3, self.ff = block.norm3, block.ff
        self.context = context
        self.attention = attention
        self.temporal_positions = temporal_positions
        self.temporal = temporal
        self.norm_temp: nn.LayerNorm | None = None
        self.attn_temp: Any = None
        if temporal:
            self._add_temporal(block)

    def _add_temporal(self, block: BasicTransformerBlock) -> None:
        like = base_layer(block.attn1.to_q).weight
        dim, affine = block.norm1.normalized_shape[0], block.norm1.elementwise_affine
        self.norm_temp = nn.LayerNorm(dim, block.norm1.eps, affine, device=like.device, dtype=like.dtype)
        with torch.device("meta"):  # no draw from the global generator
            attn_temp = Attention(
                query_dim=dim,
                heads=block.attn1.heads,
                dim_head=block.attn1.inner_dim // block.attn1.heads,
                dropout=block.attn1.dropout,
                bias=block.attn1.use_bias,
                upcast_attention=block.attn1.upcast_attention,
            )
        attn_temp = attn_temp.to(torch.promote_types(like.dtype, torch.float32)).to_empty(device=like.device)
        self.attn_temp = TemporalAttention(attn_temp, self.context)

    def initialise_temporal(self, generator: torch.Generator) -> None:
        """Draw the temporal projections as nn.Linear does, and set the output projection to zero: an exact identity.

        Arguments:
            generator: a CPU generator, so that the weights are the same on every device.
        """
        if not self.temporal:
            return
        for projection in (self.attn_temp.to_q, self.attn_temp.to_k, self.attn_temp.to_v):
            bound = projection.in_features**-0.5
            for parameter in base_layer(projection).parameters():
                parameter.data.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
        for parameter in base_layer(self.attn_temp.to_out[0]).parameters():
            parameter.data.zero_()

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, entry: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Hidden states (b f, s, c), text (b, n, d); returns (b f, s, c).

        `entry` computes the hidden states from what is passed in their place, in the forward pass and when recomputing.
        """
        seen = checkpoint_around_attention(self.context, partial(self._attend_frames, entry), hidden_states)
        text = self.attn2.to_k(encoder_hidden_states), self.attn2.to_v(encoder_hidden_states)
        frames, positions = seen.shape[:2]
        at_once = max(1, POSITIONS_AT_ONCE // frames, ceil(positions / MOST_PIECES))
        pieces = seen.split(positions if self.context.control else at_once, dim=1)
        return torch.cat([checkpoint_whole(self.context, self._at_positions, piece, *text) for piece in pieces], dim=1)

    def _attend_frames(self, entry: Callable[[Tensor], Tensor] | None, hidden_states: Tensor) -> Tensor:
        hidden_states = entry(hidden_states) if entry else hidden_states
        return hidden_states + self.attn1(self.norm1(hidden_states))

    def _at_positions(self, hidden_states: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The rest of the block for some positions, since no position needs another one: (b f, p, c) -> (b f, p, c)."""
        hidden_states = checkpoint_cheap(self.context, self._attend_text, hidden_states, key, value)
        if not self.temporal:
            return hidden_states
        return checkpoint_cheap(self.context, self._attend_time, hidden_states)

    def _attend_text(self, hidden_states: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Cross-attention and feed-forward in one checkpoint: the last product of the latter is not recomputed."""
        hidden_states = hidden_states + self.attn2(self.norm2(hidden_states), key, value)
        return hidden_states + self.ff(self.norm3(hidden_states))

    def _attend_time(self, hidden_states: Tensor) -> Tensor:
        assert self.norm_temp is not None, "called with a temporal attention alone"
        normed = self.norm_temp(hidden_states)
        if self.temporal_positions:
            normed = add_positions(normed, self.context.num_frames)
        return hidden_states + self.attn_temp(normed)


def add_positions(hidden_states: Tensor, num_frames: int) -> Tensor:
    """Add the encoding of each frame's number (`positions.py`) to hidden states (b f, s, c)."""
    placed = hidden_states.unflatten(0, (-1, num_frames))  # b f s c
    positions = sinusoidal_positions(num_frames, hidden_states.shape[-1], hidden_states)
    return (placed + positions[:, None]).flatten(0, 1)
