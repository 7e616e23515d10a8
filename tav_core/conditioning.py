"""What a prediction is conditioned on. Plain data, which models/, diffusion/ and unet/ share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The prompts of a batch of clips, one prompt for each clip.

    Attributes:
        text: text embeddings, (b, n, d).
    """

    text: Tensor

    def to(self, device: torch.device) -> Conditioning:
        """The same on another device."""
        return Conditioning(self.text.to(device))

    def detach(self) -> Conditioning:
        """A copy that can be trained on, also of tensors that were made in inference mode."""
        return Conditioning(self.text.detach().clone())

    def fits(self, other: Conditioning) -> bool:
        """Whether both can stand in one batch."""
        return self.text.shape == other.text.shape

    def cat(self, other: Conditioning) -> Conditioning:
        """Both in one batch, this one's clips first: (2 b, n, d)."""
        return Conditioning(torch.cat([self.text, other.text]))


def as_conditioning(text: Tensor | Conditioning) -> Conditioning:
    """Text embeddings (b, n, d), or what holds them already."""
    return text if isinstance(text, Conditioning) else Conditioning(text)
