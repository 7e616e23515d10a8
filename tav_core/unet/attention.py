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
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from einops import rearrange
from torch import Tensor, nn
from torch.backends.cuda import SDPAParams, can_use_efficient_attention, can_use_flash_attention

from .checkpointing import checkpoint_around_attention, checkpoint_cheap, checkpoint_whole, repeated
from .frames import ClipState, without_autocast
from .positions import sinusoidal_positions

ATTENTION_MODES = ("sparse_causal", "per_frame")
# Positions, of all frames together, that are worked on at once. Where none needs another: few of them stay in the
# caches of a CPU, and the eightfold width of a feed-forward makes no large tensor.
POSITIONS_AT_ONCE = 1024
MOST_PIECES = 4
# And where they attend to each other: the doubled keys and values, and their gradients, would be large.
QUERIES_AT_ONCE = 2**15
# And where no kernel of the device attends without the matrix of all scores: so many of these, two thirds of a GiB with
# what softmax makes of them.
SCORES_AT_ONCE = 2**26


def attend(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Multi-head softmax(Q K^T / sqrt(d)) V, without the output projection.

    Arguments:
        attn: the module whose heads and precision are used.
        query: projected queries (n, s, heads d).
        key, value: projected keys and values (n, k, heads d).

    Returns:
        The weighted values (n, s, heads d).
    """
    q, k, v = (rearrange(t, "n s (h d) -> n h s d", h=attn.heads) for t in (query, key, value))
    if attn.upcast_attention:
        # Stable Diffusion 2 overflows in half precision here; autocast would undo the cast to float32.
        with without_autocast(q.device):
            out = _softmax_attention(q.float(), k.float(), v.float(), attn.scale).to(value.dtype)
    else:
        out = _softmax_attention(q, k, v, attn.scale)
    return rearrange(out, "n h s d -> n s (h d)")


def _softmax_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """softmax(Q K^T scale) V: (n, h, s, d), (n, h, k, d), (n, h, k, d) -> (n, h, s, d)."""
    at_once = query.shape[2] if _has_fused_kernel(query, key, value) else SCORES_AT_ONCE // key[..., 0].numel()
    if at_once >= query.shape[2]:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    attend_some = partial(F.scaled_dot_product_attention, scale=scale)
    pieces = query.split(max(1, at_once), dim=2)
    return torch.cat([repeated(attend_some, piece, key, value) for piece in pieces], dim=2)


def _has_fused_kernel(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether torch attends on this device without the matrix of scores. Apple's GPUs and older ones of AMD do not."""
    if query.is_cpu:
        return True
    if not query.is_cuda:
        return False
    asked: Any = partial(SDPAParams, query, key, value, None, 0.0, False)  # no mask, no dropout, not causal
    try:
        params = asked(False)  # nor heads that share keys, as torch wants to know from 2.5 on
    except TypeError:
        params = asked()
    return can_use_flash_attention(params) or can_use_efficient_attention(params)


def project(linear: nn.Linear, tokens: Tensor) -> Tensor:
    """A linear layer in the type of `tokens`: weights that train rest in float32 in a model of half precision."""
    bias = None if linear.bias is None else linear.bias.to(tokens.dtype)
    return F.linear(tokens, linear.weight.to(tokens.dtype), bias)


def project_out(attn: Attention, attended: Tensor) -> Tensor:
    """The output projection of `attn`, and its dropout: (n, s, heads d) -> (n, s, c)."""
    projection, dropout = attn.to_out
    return dropout(project(projection, attended))


def sparse_causal_attention(attn: Attention, hidden_states: Tensor, num_frames: int) -> Tensor:
    """Each frame attends to the first and to the former frame (ST-Attn of section 3.2).

    The former frame of the first frame is itself, so frames 1 and 2 see frame 1 twice. A softmax over doubled keys is
    the softmax over single ones, so these two get one set of keys. No frame but the first sees itself.

    Arguments:
        attn: the self-attention of the image model.
        hidden_states: (b f, s, c).
        num_frames: f.

    Returns:
        The attention output (b f, s, c).
    """
    return project_out(attn, _attend_first_and_former(attn, hidden_states, num_frames))


def _attend_first_and_former(attn: Attention, hidden_states: Tensor, num_frames: int) -> Tensor:
    """Sparse-causal attention without its output projection, before which all tensors in here are given back."""
    projected = (project(attn.to_q, hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states))
    query, key, value = (rearrange(p, "(b f) s c -> b f s c", f=num_frames) for p in projected)
    # Copies, so that keys and values of all frames need not be kept for the sake of the first.
    first_key, first_value = key[:, 0].clone(), value[:, 0].clone()
    out = [attend(attn, query[:, :2].flatten(1, 2), first_key, first_value)]  # b min(2,f)s c
    if num_frames > 2:
        at_once = max(1, QUERIES_AT_ONCE // hidden_states.shape[1])
        late = (query[:, 2:], key[:, 1:-1], value[:, 1:-1])
        for q, k, v in zip(*(p.split(at_once, dim=1) for p in late), strict=True):  # b n s c
            seen = attend(attn, q.flatten(0, 1), _behind(first_key, k), _behind(first_value, v))
            out.append(seen.unflatten(0, q.shape[:2]).flatten(1, 2))
    return torch.cat(out, dim=1).unflatten(1, (num_frames, -1)).flatten(0, 1)


def _behind(first: Tensor, former: Tensor) -> Tensor:
    """What n frames see: the first (b, s, c) and the former of each (b, n, s, c); returns (b n, 2 s, c)."""
    return torch.cat([first.unsqueeze(1).expand_as(former), former], dim=2).flatten(0, 1)


def self_attention(attn: Attention, hidden_states: Tensor) -> Tensor:
    """Plain self-attention within each row of the batch: (n, s, c) -> (n, s, c)."""
    projected = (project(attn.to_q, hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states))
    return project_out(attn, attend(attn, *projected))


def temporal_attention(attn: Attention, hidden_states: Tensor, num_frames: int) -> Tensor:
    """Each position attends to itself in all frames: (b f, s, c) -> (b f, s, c). There is no positional encoding.

    Projections stand before and after the change of axes, which is then a view of each clip, and copies nothing.
    """
    projected = (project(linear, hidden_states) for linear in (attn.to_q, attn.to_k, attn.to_v))
    clips = zip(*(p.transpose(0, 1).split(num_frames, dim=1) for p in projected), strict=True)  # each (s, f, c)
    return project_out(attn, torch.cat([attend(attn, *clip).transpose(0, 1) for clip in clips]))


def cross_attention(attn: Attention, hidden_states: Tensor, key: Tensor, value: Tensor, num_frames: int) -> Tensor:
    """Frames attend to the text of their clip: (b f, s, c) -> (b f, s, c).

    Arguments:
        attn: the cross-attention of the image model.
        hidden_states: (b f, s, c).
        key, value: the text as `attn` projects it, once for a clip and not once for a frame: (b, n, c).
        num_frames: f.

    Returns:
        The attention output (b f, s, c).
    """
    query = rearrange(project(attn.to_q, hidden_states), "(b f) s c -> b (f s) c", f=num_frames)
    out = attend(attn, query, key, value)
    return project_out(attn, rearrange(out, "b (f s) c -> (b f) s c", f=num_frames))


class SpatioTemporalBlock(nn.Module):
    """A transformer block of the image model, made to see a clip.

    It adopts the children of the block that it replaces under their old names (`norm1`, `attn1`, `norm2`, `attn2`,
    `norm3`, `ff`) and adds `norm_temp` and `attn_temp`, whose weights rest in float32 or finer. `initialise_temporal`
    must be called before the first use: these weights are allocated, not drawn.

    Arguments:
        block: the block to replace; its children are shared, not copied.
        clip: the state shared by the whole model.
        attention: "sparse_causal", or "per_frame" for the image model's own self-attention (an ablation).
        temporal_positions: whether the temporal attention is told where in the clip each frame stands.
    """

    def __init__(self, block: BasicTransformerBlock, clip: ClipState, attention: str, temporal_positions: bool = False):
        super().__init__()
        self.norm1, self.attn1 = block.norm1, block.attn1
        self.norm2, self.attn2 = block.norm2, block.attn2
        self.norm3, self.ff = block.norm3, block.ff
        self.clip = clip
        self.attention = attention
        self.temporal_positions = temporal_positions

        like = block.attn1.to_q.weight
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
        self.attn_temp = attn_temp.to(torch.promote_types(like.dtype, torch.float32)).to_empty(device=like.device)

    def initialise_temporal(self, generator: torch.Generator) -> None:
        """Draw the temporal projections as nn.Linear does, and set the output projection to zero: an exact identity.

        Arguments:
            generator: a CPU generator, so that the weights are the same on every device.
        """
        for projection in (self.attn_temp.to_q, self.attn_temp.to_k, self.attn_temp.to_v):
            bound = projection.in_features**-0.5
            for parameter in projection.parameters():
                in_place = parameter.device.type == "cpu" and parameter.dtype == torch.float32
                drawn = parameter.data if in_place else torch.empty(parameter.shape)
                drawn.uniform_(-bound, bound, generator=generator)
                if not in_place:
                    parameter.data.copy_(drawn)
        for parameter in self.attn_temp.to_out.parameters():
            parameter.data.zero_()

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, entry: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Hidden states (b f, s, c), text (b, n, d); returns (b f, s, c).

        `entry` makes the hidden states from what is given in their place, and on the way back makes them again.
        """
        seen = checkpoint_around_attention(self.clip, partial(self._attend_frames, entry), hidden_states)
        text = self.attn2.to_k(encoder_hidden_states), self.attn2.to_v(encoder_hidden_states)
        frames, positions = seen.shape[:2]
        pieces = seen.split(max(1, POSITIONS_AT_ONCE // frames, ceil(positions / MOST_PIECES)), dim=1)
        return torch.cat([checkpoint_whole(self.clip, self._at_positions, piece, *text) for piece in pieces], dim=1)

    def _attend_frames(self, entry: Callable[[Tensor], Tensor] | None, hidden_states: Tensor) -> Tensor:
        hidden_states = entry(hidden_states) if entry else hidden_states
        normed = self.norm1(hidden_states)
        if self.attention == "sparse_causal":
            return hidden_states + sparse_causal_attention(self.attn1, normed, self.clip.num_frames)
        return hidden_states + self_attention(self.attn1, normed)

    def _at_positions(self, hidden_states: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All that follows, in which no position needs another one: some positions (b f, p, c) -> (b f, p, c)."""
        hidden_states = checkpoint_cheap(self.clip, self._attend_text, hidden_states, key, value)
        return checkpoint_cheap(self.clip, self._attend_time, hidden_states)

    def _attend_text(self, hidden_states: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """With the feed-forward, whose last product is not needed again."""
        attended = cross_attention(self.attn2, self.norm2(hidden_states), key, value, self.clip.num_frames)
        hidden_states = hidden_states + attended
        return hidden_states + self.ff(self.norm3(hidden_states))

    def _attend_time(self, hidden_states: Tensor) -> Tensor:
        num_frames = self.clip.num_frames
        normed = self.norm_temp(hidden_states)
        if self.temporal_positions:
            placed = normed.unflatten(0, (-1, num_frames))  # b f s c
            positions = sinusoidal_positions(num_frames, normed.shape[-1], normed)
            normed = (placed + positions[:, None]).flatten(0, 1)
        return hidden_states + temporal_attention(self.attn_temp, normed, num_frames)
