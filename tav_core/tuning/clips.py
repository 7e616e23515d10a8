"""Several clips of one motion, as a batch to tune on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import lcm

import torch
from torch import Tensor

from ..conditioning import Conditioning, as_conditioning

SAME_RATE = 0.01  # by which the frame rates of clips may differ, as a share


def batch_of_clips(
    latents: Tensor, caption: Tensor | Conditioning, more: Sequence[tuple[Tensor, Tensor | Conditioning]]
) -> tuple[Tensor, Tensor | Conditioning]:
    """A clip and more clips of its motion, with their captions, in one batch.

    A caption with fewer tokens is repeated until all have as many, which attention does not see.

    Arguments:
        latents, caption: of the clip, (1, c, f, h, w) and (1, n, d).
        more: latents and caption of each other clip.

    Returns:
        Latents (b, c, f, h, w) and captions (b, n, d), the clip first; both as they were without more clips.

    Raises:
        ValueError: a clip has another number of frames or another size, or a control acts on one of them alone.
    """
    if not more:
        return latents, caption
    clips, captions = [latents], [as_conditioning(caption)]
    for number, (other, text) in enumerate(more, 2):
        raise_unless_alike(number, other, latents)
        clips.append(other.to(latents))
        captions.append(as_conditioning(text))
    if any(text.controls for text in captions):
        raise ValueError(
            "A control holds one clip, and several are tuned on: tune without controls, and give them to the edit."
        )
    tokens = lcm(*(text.text.shape[1] for text in captions))
    equal = [replace(text, text=text.text.repeat(1, tokens // text.text.shape[1], 1)) for text in captions]
    together = equal[0]
    for text in equal[1:]:
        together = together.cat(text.to(together.text.device))
    return torch.cat(clips), together


def raise_unless_alike(number: int, clip: Tensor, first: Tensor) -> None:
    """Raise unless a clip is as long and as large as the first one.

    Arguments:
        number: of the clip, for the message.
        clip, first: their latents, (1, c, f, h, w).

    Raises:
        ValueError: with both sizes and the remedy.
    """
    if clip.shape != first.shape:
        raise ValueError(
            f"Clip {number} has {_size(clip)} and the first one {_size(first)}: take as many frames of the same size "
            "from each clip."
        )


def raise_unless_one_rate(number: int, rate: float, first: float, remedy: str) -> None:
    """Raise unless a clip has the frame rate of the first one: the motion would be faster in one than in the other.

    Arguments:
        number: of the clip, for the message.
        rate, first: frames per second.
        remedy: what to set.

    Raises:
        ValueError: with both rates and the remedy.
    """
    if abs(rate - first) > SAME_RATE * first:
        raise ValueError(f"Clip {number} has {rate:g} frames per second and the first one {first:g}: {remedy}.")


def _size(clip: Tensor) -> str:
    if clip.ndim != 5 or len(clip) != 1:
        return f"latents of shape {tuple(clip.shape)}"
    _, _, frames, height, width = clip.shape
    return f"{frames} frames of {width} x {height} latent pixels"
