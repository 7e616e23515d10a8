"""Attention maps: what each position of each frame attends to, recorded while the model runs.

    with record_attention(video_unet, kinds=("attn2",)) as recorder:
        *_, last = sample(video_unet, noise, prompt, None, scheduler, config)
    recorder.probabilities("attn2", block, timestep)  # (b, f, heads, s, k)

All maps have one layout, (b, f, heads, s, k): clip, frame, head, position in the frame, key. What the keys are:

    attn1      2 s: all positions of the first frame, then of the former one (each once more for the first two frames)
    attn2      n tokens of the prompt
    attn_temp  f frames, at the same position

Guidance runs both prompts, in one batch or in two calls. The clips of all calls at a timestep are put one after the
other here, so b is 2 either way, the prompt first. Of a prompt-to-prompt edit, what is recorded is the attention after
the replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

from ..checks import check_choice, check_integer
from ..unet.attention import Attend, AttentionSite, attention_probabilities
from ..unet.video_unet import VideoUNet

KINDS = ("attn1", "attn2", "attn_temp")
MAX_BYTES = 2 * 2**30
LARGEST = 2**63 - 1
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """The probabilities of one attention in one call of the model.

    Attributes:
        block: the name of the spatio-temporal block, of `video_unet.blocks`.
        kind: "attn1", the attention to frames; "attn2", to the text; "attn_temp", over time.
        timestep: at which the model was called.
        size: height and width of the frames at this block; s = height * width.
        probabilities: (b, f, heads, s, k), float32; heads is 1 where the mean over them was taken.
    """

    block: str
    kind: str
    timestep: int
    size: tuple[int, int]
    probabilities: Tensor


class AttentionRecorder:
    """An AttentionControl that records and changes nothing. Made by `record_attention`.

    Attributes:
        maps: in the order in which the model computed them, on the CPU; empty where each is given away.
    """

    def __init__(
        self,
        kinds: Collection[str],
        blocks: Collection[str] | None,
        timesteps: Collection[int] | None,
        mean: bool,
        max_bytes: int,
        each: Callable[[AttentionMap], object] | None,
    ):
        self.maps: list[AttentionMap] = []
        self._kinds, self._blocks, self._timesteps = kinds, blocks, timesteps
        self._mean, self._left, self._each = mean, max_bytes, each

    def probabilities(self, kind: str, block: str, timestep: int) -> Tensor:
        """All maps of one attention at one timestep, (b, f, heads, s, k), the clips of all calls in their order.

        Raises:
            KeyError: there is none.
        """
        place = kind, block, timestep
        found = [m.probabilities for m in self.maps if (m.kind, m.block, m.timestep) == place]
        if not found:
            raise KeyError(f"No {kind} of {block} was recorded at timestep {timestep}: look at `maps`.")
        return torch.cat(found)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        """See `AttentionControl`."""
        if self._wanted(site):
            with torch.no_grad():
                self._record(q, k, site)
        return attend(q, k, v)

    def _wanted(self, site: AttentionSite) -> bool:
        if site.kind not in self._kinds or not (self._blocks is None or site.block in self._blocks):
            return False
        return self._timesteps is None or _timestep(site) in self._timesteps

    def _record(self, q: Tensor, k: Tensor, site: AttentionSite) -> None:
        if self._each is None:
            self._make_room(q, k, site)
        found = attention_probabilities(q, k, site, mean=self._mean)
        place = site.block, site.kind, _timestep(site), site.size
        if self._each is not None:
            self._each(AttentionMap(*place, found))
        else:
            self.maps.append(AttentionMap(*place, found.cpu()))

    def _make_room(self, q: Tensor, k: Tensor, site: AttentionSite) -> None:
        keys = {"attn1": k.shape[1] * (2 if site.to_first else 1), "attn2": k.shape[1], "attn_temp": site.num_frames}
        shape = q.shape[0], 1 if self._mean else site.heads, q.shape[1], keys[site.kind]
        self._left -= prod(shape) * torch.float32.itemsize
        if self._left < 0:
            raise MemoryError(
                f"The maps pass max_bytes at {site.kind} of {site.block}, which takes {4 * prod(shape) / 1e6:.0f} MB: "
                "choose kinds, blocks or timesteps, take each map as it comes (each=), or raise max_bytes."
            )


def _timestep(site: AttentionSite) -> int:
    """Of all clips.

    Raises:
        ValueError: they have different ones.
    """
    assert site.timesteps is not None, "VideoUNet sets it"
    timesteps = {int(timestep) for timestep in site.timesteps}
    if len(timesteps) > 1:
        raise ValueError(f"Attention is recorded at one timestep for all clips, not {sorted(timesteps)}.")
    return timesteps.pop()


def _tuple_or_none(given: Collection[Item] | None) -> tuple[Item, ...] | None:
    return None if given is None else tuple(given)


@contextmanager
def record_attention(
    video_unet: VideoUNet,
    *,
    kinds: Collection[str] = KINDS,
    blocks: Collection[str] | None = None,
    timesteps: Collection[int] | None = None,
    mean: bool = True,
    max_bytes: int = MAX_BYTES,
    each: Callable[[AttentionMap], object] | None = None,
) -> Iterator[AttentionRecorder]:
    """Record attention while the model runs, inside a `with`. What the model computes does not change.

    Arguments:
        video_unet: the inflated model.
        kinds: of "attn1", "attn2" and "attn_temp".
        blocks: names of `video_unet.blocks`; None for all.
        timesteps: to record at; None for all.
        mean: whether to record the mean over the heads, with heads 1.
        max_bytes: of all maps; a map beyond raises, before it is made.
        each: takes each AttentionMap as it comes, on the model's device; nothing is stored then.

    Yields:
        The AttentionRecorder, which holds the maps.

    Raises:
        MemoryError: the maps would pass max_bytes.
        TypeError, ValueError: no list, or an unknown kind or block.
    """
    for name, given in (("kinds", kinds), ("blocks", blocks), ("timesteps", timesteps)):
        if isinstance(given, (str, int)):
            raise TypeError(f"{name} are several: give a list, [{given!r}].")
    kinds, blocks, timesteps = tuple(kinds), _tuple_or_none(blocks), _tuple_or_none(timesteps)  # read at every call
    for kind in kinds:
        check_choice("kinds", kind, KINDS)
    for block in blocks or ():
        check_choice("blocks", block, list(video_unet.blocks))
    check_integer("max_bytes", max_bytes, 0, LARGEST)
    recorder = AttentionRecorder(kinds, blocks, timesteps, mean, max_bytes, each)
    with video_unet.controlled(recorder):
        yield recorder
