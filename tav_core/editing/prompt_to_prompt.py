"""Prompt-to-prompt: the attention of one pass of the model replaces that of the next (Hertz et al., arXiv:2208.01626).

A word of the prompt then acts where the word in its place acts in the caption, and pixels look where they look in the
clip. Queries and keys decide where an attention looks, values what it brings: those of the edit stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..diffusion.denoiser import UNetDenoiser
from ..diffusion.schedule import NoiseSchedule
from ..unet.attention import Attend, AttentionControl, AttentionSite
from .config import SamplingConfig

CROSS, SELF = "attn2", "attn1"


def replaced_kinds(config: SamplingConfig, done: float = 0.0) -> frozenset[str]:
    """The attentions that are replaced in a step before which the share `done` of all steps was taken."""
    until = {CROSS: config.cross_replace_steps, SELF: config.self_replace_steps}
    return frozenset(kind for kind, share in until.items() if done < share)


@dataclass(eq=False)
class PromptToPrompt:
    """Attention that is kept from one pass and put into the next.

    Attributes:
        alignment: for each token of the prompt the place of the caption's token in whose place it acts, or -1 to leave
            it its own key: (n,) integers. None for the same places.
        kinds: which attentions are replaced, of CROSS and SELF. None of them: neither pass is touched.
    """

    alignment: Tensor | None = None
    kinds: frozenset[str] = frozenset()
    _kept: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def keep(self, q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        """An AttentionControl: keep queries and keys."""
        if site.kind in self.kinds:
            self._kept[f"{site.block}.{site.kind}"] = q, k
        return attend(q, k, v)

    def put(self, q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        """An AttentionControl: attend by the queries and keys that were kept, and forget them."""
        if site.kind not in self.kinds:
            return attend(q, k, v)
        queries, keys = self._kept.pop(f"{site.block}.{site.kind}")
        return attend(queries, keys if site.kind == SELF else self._aligned(keys, k), v)

    def _aligned(self, kept: Tensor, own: Tensor) -> Tensor:
        """The kept keys (b, n, c) in the order of the prompt's tokens, with its own ones where it has a new word."""
        if self.alignment is None:
            return kept
        places = self.alignment.to(kept.device)
        return torch.where((places < 0)[:, None], own, kept[:, places.clamp(min=0)])


@dataclass(frozen=True, eq=False)
class Controlled:
    """A denoiser whose attentions are under a control."""

    denoiser: UNetDenoiser
    control: AttentionControl

    @property
    def schedule(self) -> NoiseSchedule:
        """That of the denoiser."""
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """See `Denoiser`."""
        with self.denoiser.video_unet.controlled(self.control):
            return self.denoiser(x_t, t)
