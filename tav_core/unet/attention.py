"""The attentions of Tune-A-Video (arXiv:2212.11565, section 3.2) over folded frames (b f, s, c), s = h w positions.

    sparse-causal   Q = W_q z_i,  K = W_k [z_1, z_{i-1}],  V = W_v [z_1, z_{i-1}]
    cross           from each frame to the text of its clip
    temporal        each position attends to itself in all frames

Each is a module that adopts the projections of an attention of diffusers under their old names, and calls them. None
makes the matrix of all scores, on any device.

A control (`AttentionControl`) stands between the projections and the attention. It may attend to something else, as
prompt-to-prompt does, or look at the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from .frames import FrameContext, without_autocast
from .modules import CastingLinear

# Queries that attend at once: the doubled keys and values, and their gradients, would be large.
QUERIES_AT_ONCE = 2**15
# Scores at once where the device has no fused attention: two thirds of a GiB with what softmax makes of them.
SCORES_AT_ONCE = 2**26

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class AttentionSite:
    """Where in the model an attention is.

    Attributes:
        block: the name of its spatio-temporal block in the UNet.
        kind: "attn1", the attention to frames; "attn2", to the text; or "attn_temp", over time.
        heads: the number of heads.
        scale: the factor of the scores, 1 / sqrt(d).
        num_frames: f.
        timesteps: of each clip, (b,).
        size: height and width of the frames here; s = height * width.
        to_first: whether attn1 is sparse-causal, to the first and the former frame, or within each frame.
    """

    block: str
    kind: str
    heads: int
    scale: float
    num_frames: int
    timesteps: Tensor | None = None
    size: tuple[int, int] = (0, 0)
    to_first: bool = False


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


def nested(control: AttentionControl, other: AttentionControl) -> AttentionControl:
    """A control whose `attend` is the other's."""

    def both(q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        return control(q, k, v, site=site, attend=lambda q, k, v: other(q, k, v, site=site, attend=attend))

    return both


def attention_probabilities(q: Tensor, k: Tensor, site: AttentionSite, *, mean: bool = False) -> Tensor:
    """What each query attends to, of the queries and keys that a control is given.

    Arguments:
        q, k: as an AttentionControl gets them.
        site: which attention they are of.
        mean: whether to take the mean over the heads, without making all of them at once.

    Returns:
        (b, f, heads, s, k), float32, heads 1 for the mean, each row a distribution over the keys:
        attn2 the n tokens of the text; attn_temp the f frames, at the same position; attn1 2 s positions, those of the
        first frame and then of the former one, which for the first two frames are the same frame twice, half of the
        probability each; within each frame (attention="per_frame") its own s positions.
    """
    queries = rearrange(q.float(), "(b f) s (h d) -> b f h s d", f=site.num_frames, h=site.heads)
    if site.kind == "attn2":
        keys = rearrange(k.float(), "b n (h d) -> b 1 h d n", h=site.heads)
        return torch.cat([_softmax(piece, keys, site, mean) for piece in _pieces(queries, keys)], dim=3)
    keys = rearrange(k.float(), "(b f) s (h d) -> b f h d s", f=site.num_frames, h=site.heads)
    if site.kind == "attn_temp":
        over_time = rearrange(queries, "b f h s d -> b s h f d"), rearrange(keys, "b f h d s -> b s h d f")
        return rearrange(_softmax(*over_time, site, mean), "b s h f k -> b f h s k")
    frames = []
    for frame in range(site.num_frames):
        seen = keys[:, frame] if not site.to_first else torch.cat([keys[:, 0], keys[:, max(0, frame - 1)]], dim=-1)
        pieces = _pieces(queries[:, frame, None], seen[:, None])
        frames.append(torch.cat([_softmax(piece, seen[:, None], site, mean) for piece in pieces], dim=3))
    return torch.cat(frames, dim=1)


def _pieces(queries: Tensor, keys: Tensor) -> Sequence[Tensor]:
    """The queries (b, f, h, s, d) in pieces whose scores are not too many at once."""
    of_a_position = queries[:, :, :, 0, 0].numel() * keys.shape[-1]
    return queries.split(max(1, SCORES_AT_ONCE // of_a_position), dim=3)


def _softmax(queries: Tensor, keys: Tensor, site: AttentionSite, mean: bool) -> Tensor:
    """(..., h, s, d) and (..., h, d, k) to probabilities (..., h, s, k), or to their mean over the heads."""
    found = (queries @ keys * site.scale).softmax(dim=-1)
    return found.mean(dim=-3, keepdim=True) if mean else found


def _size_of(positions: int, size: Sequence[int]) -> tuple[int, int]:
    """Height and width of a layer by its number of positions: the latents', halved and rounded up some times."""
    height, width = size
    while height * width > positions:
        height, width = (height + 1) // 2, (width + 1) // 2
    assert height * width == positions, "a layer of the UNet that is no halving of the latents"
    return height, width


class ClipAttention(nn.Module):
    """An attention that sees a clip. Its queries train.

    Arguments:
        attn: the attention whose children are adopted, not copied.
        context: shared by the whole model.

    Attributes:
        block: the name of its block in the UNet, set by VideoUNet.
    """

    kind = "attn1"

    def __init__(self, attn: Attention, context: FrameContext):
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = CastingLinear.adopt(attn.to_q), attn.to_k, attn.to_v, attn.to_out
        self.heads, self.scale, self.upcast_attention = attn.heads, attn.scale, attn.upcast_attention
        self.context = context
        self.block = ""

    def set_processor(self, processor: Any) -> None:
        """Refuse a processor of diffusers: it would not see the clip.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{type(processor).__name__} cannot act in an inflated UNet, whose attention sees a clip. Use "
            "VideoUNet.controlled to watch or replace an attention."
        )

    def _attended(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The weighted values (b f, s, c) from projected queries, keys and values, by the control if there is one."""
        if self.context.control is None:
            return attend(query, key, value)
        context, to_first = self.context, isinstance(self, SparseCausalAttention)
        size = _size_of(query.shape[1], context.size)
        of_call = context.num_frames, context.timesteps, size
        site = AttentionSite(self.block, self.kind, self.heads, self.scale, *of_call, to_first)
        return self.context.control(query, key, value, site=site, attend=attend)

    def _project_out(self, attended: Tensor) -> Tensor:
        """The output projection and its dropout: (n, s, heads d) -> (n, s, c)."""
        projection, dropout = self.to_out
        return dropout(projection(attended))


class SelfAttention(ClipAttention):
    """Plain self-attention within each frame."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(b f, s, c) -> (b f, s, c)."""
        return self._project_out(self._to_itself(hidden_states))

    def _to_itself(self, hidden_states: Tensor) -> Tensor:
        """The attention without its output projection, before which all tensors in here are given back."""
        return self._attended(
            self._attend, self.to_q(hidden_states), self.to_k(hidden_states), self.to_v(hidden_states)
        )

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(self, query, key, value)


class SparseCausalAttention(SelfAttention):
    """Each frame attends to the first and to the former frame (ST-Attn of section 3.2).

    The former frame of the first frame is itself, so frames 1 and 2 see frame 1 twice. A softmax over doubled keys is
    the softmax over single ones, so these two get one set of keys. No frame but the first sees itself.
    """

    def _attend(self, *projected: Tensor) -> Tensor:
        clips = (rearrange(p, "(b f) s c -> b f s c", f=self.context.num_frames) for p in projected)
        return sparse_causal_attention(*clips, attend=partial(attend, self)).flatten(0, 1)


def sparse_causal_attention(query: Tensor, key: Tensor, value: Tensor, *, attend: Attend) -> Tensor:
    """Let each frame attend to the first and to the former one, see `SparseCausalAttention`.

    Arguments:
        query: projected queries (b, f, s, c).
        key, value: projected keys and values (b, f, k, c); k may differ from s.
        attend: the attention of (n, s, c) to (n, k, c).

    Returns:
        The weighted values (b, f, s, c).
    """
    num_frames = query.shape[1]
    # Copies, so that the backward pass need not store keys and values of all frames for the first one.
    first_key, first_value = key[:, 0].clone(), value[:, 0].clone()
    out = [attend(query[:, :2].flatten(1, 2), first_key, first_value)]  # b min(2,f)s c
    if num_frames > 2:
        at_once = max(1, QUERIES_AT_ONCE // query.shape[2])
        late = (query[:, 2:], key[:, 1:-1], value[:, 1:-1])
        for q, k, v in zip(*(p.split(at_once, dim=1) for p in late), strict=True):  # b n s c
            seen = attend(q.flatten(0, 1), _behind(first_key, k), _behind(first_value, v))
            out.append(seen.unflatten(0, q.shape[:2]).flatten(1, 2))
    return torch.cat(out, dim=1).unflatten(1, (num_frames, -1))


def _behind(first: Tensor, former: Tensor) -> Tensor:
    """What n frames see: the first (b, s, c) and the former of each (b, n, s, c); returns (b n, 2 s, c)."""
    return torch.cat([first.unsqueeze(1).expand_as(former), former], dim=2).flatten(0, 1)


class TemporalAttention(SelfAttention):
    """Each position attends to itself in all frames. There is no positional encoding.

    Projections stand before and after the change of axes, which is then a view of each clip, and copies nothing.
    """

    kind = "attn_temp"

    def __init__(self, attn: Attention, context: FrameContext):
        super().__init__(attn, context)
        self.to_k, self.to_v = CastingLinear.adopt(attn.to_k), CastingLinear.adopt(attn.to_v)
        self.to_out[0] = CastingLinear.adopt(attn.to_out[0])

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return temporal_attention(query, key, value, self.context.num_frames, attend=partial(attend, self))


def temporal_attention(query: Tensor, key: Tensor, value: Tensor, num_frames: int, *, attend: Attend) -> Tensor:
    """Let each position attend to itself in all frames, see `TemporalAttention`.

    Arguments:
        query, key, value: projected, (b f, s, c).
        num_frames: f.
        attend: the attention of (n, f, c) to (n, f, c).

    Returns:
        The weighted values (b f, s, c).
    """
    clips = zip(*(p.transpose(0, 1).split(num_frames, dim=1) for p in (query, key, value)), strict=True)  # each s f c
    return torch.cat([attend(*clip).transpose(0, 1) for clip in clips])


class CrossAttention(ClipAttention):
    """Frames attend to the text of their clip."""

    kind = "attn2"

    def forward(self, hidden_states: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(b f, s, c) -> (b f, s, c).

        Arguments:
            hidden_states: (b f, s, c).
            key, value: the text as `to_k` and `to_v` project it, once for a clip and not once for a frame: (b, n, c).
        """
        return self._project_out(self._attended(self._attend, self.to_q(hidden_states), key, value))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = attend(self, rearrange(query, "(b f) s c -> b (f s) c", f=self.context.num_frames), key, value)
        return rearrange(out, "b (f s) c -> (b f) s c", f=self.context.num_frames)


def attend(attn: ClipAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
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
