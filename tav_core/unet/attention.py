"""The attentions of Tune-A-Video (arXiv:2212.11565, section 3.2) over folded frames (b f, s, c), s = h w positions.

    sparse-causal   Q = W_q z_i,  K = W_k [z_1, z_{i-1}],  V = W_v [z_1, z_{i-1}]
    cross           from each frame to the text of its clip
    temporal        each position attends to itself in all frames

None of them makes the matrix of all scores, on any device.
"""

from functools import partial
from typing import Any

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
    # Copies, so that the backward pass need not store keys and values of all frames for the first one.
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
