"""The attentions of Tune-A-Video (arXiv:2212.11565, section 3.2) over folded frames (b f, s, c), s = h w positions.

    sparse-causal   Q = W_q z_i,  K = W_k [z_1, z_{i-1}],  V = W_v [z_1, z_{i-1}]
    cross           from each frame to the text of its clip
    temporal        each position attends to itself in all frames

None of them makes the matrix of all scores, on any device.

A control (`AttentionControl`) stands between the projections and the attention. It may attend to something else, as
prompt-to-prompt does, or look at the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from einops import rearrange
from torch import Tensor, nn
from torch.backends.cuda import SDPAParams, can_use_efficient_attention, can_use_flash_attention

from .checkpointing import recomputed
from .frames import without_autocast

# Queries that attend at once: the doubled keys and values, and their gradients, would be large.
QUERIES_AT_ONCE = 2**15
# Scores at once where the device has no fused attention: two thirds of a GiB with what softmax makes of them.
SCORES_AT_ONCE = 2**26

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Control = Callable[..., Tensor]  # an AttentionControl that is given its site


@dataclass(frozen=True)
class AttentionSite:
    """Where in the model an attention is.

    Attributes:
        block: the name of its spatio-temporal block in the UNet.
        kind: "attn1", the attention to frames; "attn2", to the text; or "attn_temp", over time.
        heads: the number of heads.
        scale: the factor of the scores, 1 / sqrt(d).
        num_frames: f.
    """

    block: str
    kind: str
    heads: int
    scale: float
    num_frames: int


class AttentionControl(Protocol):
    """Replaces or watches an attention while the model runs, see `VideoUNet.controlled`."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        """The weighted values of all frames, (b f, s, heads d), before the output projection.

        Arguments:
            q: projected queries, (b f, s, heads d).
            k, v: projected keys and values: of the frames, shaped as `q`, or of the text, (b, n, heads d).
            site: which attention this is.
            attend: the attention as the model computes it, from queries, keys and values of these shapes.
        """


def attention_probabilities(q: Tensor, k: Tensor, site: AttentionSite) -> Tensor:
    """What each query attends to in the text of its clip: (b f, s, heads d), (b, n, heads d) -> (b, f, heads, s, n)."""
    queries = rearrange(q.float(), "(b f) s (h d) -> b f h s d", f=site.num_frames, h=site.heads)
    keys = rearrange(k.float(), "b n (h d) -> b 1 h d n", h=site.heads)
    return (queries @ keys * site.scale).softmax(dim=-1)


def _weighted(control: Control | None, attend: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attend(query, key, value) if control is None else control(query, key, value, attend=attend)


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
    return torch.cat([recomputed(attend_some, piece, key, value) for piece in pieces], dim=2)


def _has_fused_kernel(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether torch attends on this device without the matrix of scores. Apple's GPUs and older ones of AMD do not."""
    if query.is_cpu:
        return True
    if not query.is_cuda:
        return False
    make_params: Any = partial(SDPAParams, query, key, value, None, 0.0, False)  # no mask, no dropout, not causal
    try:
        params = make_params(False)  # no grouped queries, an argument since torch 2.5
    except TypeError:
        params = make_params()
    return can_use_flash_attention(params) or can_use_efficient_attention(params)


def project(linear: nn.Linear, tokens: Tensor) -> Tensor:
    """A linear layer in the type of `tokens`: weights that train rest in float32 in a model of half precision."""
    bias = None if linear.bias is None else linear.bias.to(tokens.dtype)
    return F.linear(tokens, linear.weight.to(tokens.dtype), bias)


def project_out(attn: Attention, attended: Tensor) -> Tensor:
    """The output projection of `attn`, and its dropout: (n, s, heads d) -> (n, s, c)."""
    projection, dropout = attn.to_out
    return dropout(project(projection, attended))


def sparse_causal_attention(
    attn: Attention, hidden_states: Tensor, num_frames: int, control: Control | None = None
) -> Tensor:
    """Each frame attends to the first and to the former frame (ST-Attn of section 3.2).

    The former frame of the first frame is itself, so frames 1 and 2 see frame 1 twice. A softmax over doubled keys is
    the softmax over single ones, so these two get one set of keys. No frame but the first sees itself.

    Arguments:
        attn: the self-attention of the image model.
        hidden_states: (b f, s, c).
        num_frames: f.
        control: stands between the projections and the attention.

    Returns:
        The attention output (b f, s, c).
    """
    return project_out(attn, _attended(attn, hidden_states, partial(_first_and_former, attn, num_frames), control))


def _attended(attn: Attention, hidden_states: Tensor, attend: Attend, control: Control | None) -> Tensor:
    """Self-attention without its output projection, before which all tensors in here are given back."""
    projected = project(attn.to_q, hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
    return _weighted(control, attend, *projected)


def _first_and_former(attn: Attention, num_frames: int, *projected: Tensor) -> Tensor:
    """Weighted values of sparse-causal attention, from queries, keys and values (b f, s, c): (b f, s, c)."""
    query, key, value = (rearrange(p, "(b f) s c -> b f s c", f=num_frames) for p in projected)
    # Copies, so that the backward pass need not store keys and values of all frames for the first one.
    first_key, first_value = key[:, 0].clone(), value[:, 0].clone()
    out = [attend(attn, query[:, :2].flatten(1, 2), first_key, first_value)]  # b min(2,f)s c
    if num_frames > 2:
        at_once = max(1, QUERIES_AT_ONCE // query.shape[2])
        late = (query[:, 2:], key[:, 1:-1], value[:, 1:-1])
        for q, k, v in zip(*(p.split(at_once, dim=1) for p in late), strict=True):  # b n s c
            seen = attend(attn, q.flatten(0, 1), _behind(first_key, k), _behind(first_value, v))
            out.append(seen.unflatten(0, q.shape[:2]).flatten(1, 2))
    return torch.cat(out, dim=1).unflatten(1, (num_frames, -1)).flatten(0, 1)


def _behind(first: Tensor, former: Tensor) -> Tensor:
    """What n frames see: the first (b, s, c) and the former of each (b, n, s, c); returns (b n, 2 s, c)."""
    return torch.cat([first.unsqueeze(1).expand_as(former), former], dim=2).flatten(0, 1)


def self_attention(attn: Attention, hidden_states: Tensor, control: Control | None = None) -> Tensor:
    """Plain self-attention within each row of the batch: (n, s, c) -> (n, s, c)."""
    return project_out(attn, _attended(attn, hidden_states, partial(attend, attn), control))


def temporal_attention(
    attn: Attention, hidden_states: Tensor, num_frames: int, control: Control | None = None
) -> Tensor:
    """Each position attends to itself in all frames: (b f, s, c) -> (b f, s, c). There is no positional encoding.

    Projections stand before and after the change of axes, which is then a view of each clip, and copies nothing.
    """
    projected = (project(linear, hidden_states) for linear in (attn.to_q, attn.to_k, attn.to_v))
    return project_out(attn, _weighted(control, partial(_over_time, attn, num_frames), *projected))


def _over_time(attn: Attention, num_frames: int, *projected: Tensor) -> Tensor:
    """Weighted values of temporal attention, from queries, keys and values (b f, s, c): (b f, s, c)."""
    clips = zip(*(p.transpose(0, 1).split(num_frames, dim=1) for p in projected), strict=True)  # each (s, f, c)
    return torch.cat([attend(attn, *clip).transpose(0, 1) for clip in clips])


def cross_attention(
    attn: Attention,
    hidden_states: Tensor,
    key: Tensor,
    value: Tensor,
    num_frames: int,
    control: Control | None = None,
) -> Tensor:
    """Frames attend to the text of their clip: (b f, s, c) -> (b f, s, c).

    Arguments:
        attn: the cross-attention of the image model.
        hidden_states: (b f, s, c).
        key, value: the text as `attn` projects it, once for a clip and not once for a frame: (b, n, c).
        num_frames: f.
        control: stands between the projections and the attention.

    Returns:
        The attention output (b f, s, c).
    """
    query = project(attn.to_q, hidden_states)
    return project_out(attn, _weighted(control, partial(_to_text, attn, num_frames), query, key, value))


def _to_text(attn: Attention, num_frames: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Weighted values of cross-attention, from queries (b f, s, c) and the text (b, n, c): (b f, s, c)."""
    out = attend(attn, rearrange(query, "(b f) s c -> b (f s) c", f=num_frames), key, value)
    return rearrange(out, "b (f s) c -> (b f) s c", f=num_frames)
