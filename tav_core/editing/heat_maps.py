"""Word heat maps: where each word of a prompt acts (DAAM, Tang et al., arXiv:2210.04885).

The map of a token is the probability with which the pixels of a frame attend to it, summed over heads, layers and noise
levels, each layer's map enlarged to the latents. DAAM watches the steps of sampling. Here the model denoises the
finished clip again at some noise levels, so that any clip has maps, whatever sampled it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import MAX_SEED, check_integer
from ..conditioning import Conditioning
from ..diffusion.denoiser import to_float32, unet_denoiser
from ..unet.video_unet import VideoUNet, check_inputs
from .attention_maps import AttentionMap, record_attention

NUM_LEVELS = 8


@dataclass(frozen=True, eq=False)
class HeatMapStep:
    """The maps after one more noise level.

    Attributes:
        timestep: of this level.
        maps: the mean so far, (b, n, f, h, w) for n tokens at the size of the latents; over the tokens it sums to 1.
    """

    timestep: int
    maps: Tensor


def heat_maps(
    video_unet: VideoUNet,
    latents: Tensor,
    text: Tensor | Conditioning,
    scheduler: Any,
    *,
    num_levels: int = NUM_LEVELS,
    seed: int = 0,
) -> Iterator[HeatMapStep]:
    """Where each token of a prompt acts in a clip.

    Arguments:
        video_unet: the inflated model.
        latents: the clip, clean, (b, c, f, h, w).
        text: the embedding of its prompt, (b, n, d).
        scheduler: what `NoiseSchedule.from_scheduler` takes.
        num_levels: how many noise levels, evenly spaced.
        seed: of the noise.

    Yields:
        A HeatMapStep for each level, from high noise to low; the last one holds the result.

    Raises:
        TypeError, ValueError: if a shape, a type or a number does not fit.
    """
    check_inputs(video_unet, latents, text=text)
    check_integer("seed", seed, 0, MAX_SEED)
    denoiser = unet_denoiser(video_unet, scheduler, text)
    check_integer("num_levels", num_levels, 1, denoiser.schedule.num_train_timesteps)
    schedule, clip = denoiser.schedule, to_float32(latents, video_unet.device)
    found = _Sum(clip.shape[-2:])
    generator = torch.Generator().manual_seed(seed)
    for timestep in schedule.timesteps(num_levels):
        noise = torch.randn(clip.shape, generator=generator).to(clip.device)
        with torch.no_grad(), record_attention(video_unet, kinds=("attn2",), each=found.add):
            denoiser(schedule.add_noise(clip, noise, timestep), timestep)
        yield HeatMapStep(timestep, found.mean())


def word_heat_maps(maps: Tensor, words: Sequence[tuple[str, Sequence[int]]]) -> list[tuple[str, Tensor]]:
    """The maps of words: each the mean over its tokens, from its smallest value in the clip, 0, to its largest, 1.

    Arguments:
        maps: (1, n, f, h, w), of a HeatMapStep.
        words: each word with the places of its tokens, as `prompt_words` gives them.

    Returns:
        Each word with its map, (f, h, w) in [0, 1].

    Raises:
        ValueError: maps of several clips, or a word without a place among their tokens.
    """
    if maps.ndim != 5 or maps.shape[0] != 1:
        raise ValueError(f"Maps of one clip are (1, tokens, f, h, w), got {tuple(maps.shape)}.")
    tokens = range(maps.shape[1])
    for word, places in words:
        if not places or not all(place in tokens for place in places):
            raise ValueError(
                f"{word!r} stands at {list(places)}, the maps have {len(tokens)} tokens: take places of "
                "prompt_words, and maps of the same prompt."
            )
    means = [(word, maps[0, list(places)].mean(dim=0)) for word, places in words]
    return [(word, _stretched(heat)) for word, heat in means]


def _stretched(heat: Tensor) -> Tensor:
    """From 0 to 1; 0 everywhere if all is alike."""
    above = heat - heat.min()
    return above / above.max().clamp(min=torch.finfo(heat.dtype).tiny)


def word_mask(
    maps: Sequence[tuple[str, Tensor]], words: Sequence[str], size: Sequence[int], threshold: float
) -> Tensor:
    """A mask of where some words act.

    Arguments:
        maps: of `word_heat_maps`.
        words: those that the mask covers, whatever their case; none of them: the whole frame.
        size: height and width of the mask.
        threshold: heat from which the mask is 1, below it is 0; 0 for the heat itself.

    Returns:
        (f, *size) in [0, 1].

    Raises:
        ValueError: a word that the prompt does not have.
    """
    known = {word.lower() for word, _ in maps}
    if unknown := [word for word in words if word.lower() not in known]:
        raise ValueError(f"The prompt has no word {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    wanted = {word.lower() for word in words}
    chosen = [heat for word, heat in maps if word.lower() in wanted]
    if not chosen:
        return torch.ones(len(maps[0][1]), *size)
    heat = torch.stack(chosen).amax(dim=0)[:, None].float()
    large = F.interpolate(heat, tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return (large >= threshold).float() if threshold else large


class _Sum:
    """The sum of the maps of cross-attention, at the size of the latents."""

    def __init__(self, size: torch.Size):
        self.size, self.count = size, 0
        self.total: Tensor | None = None

    def add(self, found: AttentionMap) -> None:
        images = found.probabilities[:, :, 0].transpose(-1, -2)  # b f n s
        batch, frames = images.shape[:2]
        images = images.reshape(batch * frames, images.shape[2], *found.size)
        large = F.interpolate(images, tuple(self.size), mode="bilinear", align_corners=False)
        large = large.unflatten(0, (batch, frames)).transpose(1, 2)  # b n f h w
        self.total = large if self.total is None else self.total + large
        self.count += 1

    def mean(self) -> Tensor:
        assert self.total is not None, "the model has cross-attention: inflate() checks it"
        return self.total / self.count
