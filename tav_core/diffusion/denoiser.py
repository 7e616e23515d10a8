"""What a sampler calls: the model under one conditioning, at a noise level.

    prediction = denoiser(x_t, t)

As in k-diffusion and azula, a sampler does not depend on prompts, guidance or the network's arguments, and whatever is
called this way can be sampled, inverted and tuned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..conditioning import Conditioning, as_conditioning
from ..unet.video_unet import VideoUNet
from .schedule import NoiseSchedule


class Denoiser(Protocol):
    """Predicts noise or velocity, as `schedule.prediction_type` says."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise levels of the model."""

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """The prediction (b, c, f, h, w) at latents x_t of that shape and at timestep t, one for all clips or (b,)."""


@dataclass(frozen=True, eq=False)
class UNetDenoiser:
    """An inflated UNet under one conditioning.

    Attributes:
        video_unet: the model.
        schedule: its noise levels.
        conditioning: what it is conditioned on, on the model's device.
        compute_dtype: the type of matrix products and convolutions; None for that of the frozen weights.
    """

    video_unet: VideoUNet
    schedule: NoiseSchedule
    conditioning: Conditioning
    compute_dtype: torch.dtype | None = None

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """See `Denoiser`."""
        given: dict[str, Any] = dict(self.conditioning.residuals(x_t, t), compute_dtype=self.compute_dtype)
        if self.conditioning.added:
            given["added_cond_kwargs"] = self.conditioning.added
        return self.video_unet(x_t, t, self.conditioning.text, **given)

    def beside(self, other: Denoiser) -> UNetDenoiser | None:
        """Both as one denoiser of twice the batch, this one's clips first; None where they cannot share a pass."""
        if not isinstance(other, UNetDenoiser) or other.video_unet is not self.video_unet:
            return None
        if not self.conditioning.fits(other.conditioning) or other.compute_dtype != self.compute_dtype:
            return None
        return replace(self, conditioning=self.conditioning.cat(other.conditioning))


def unet_denoiser(
    video_unet: VideoUNet, scheduler: Any, text: Tensor | Conditioning, compute_dtype: torch.dtype | None = None
) -> UNetDenoiser:
    """The model under a prompt, with the prompt on the model's device.

    Arguments:
        video_unet: the inflated model.
        scheduler: what `NoiseSchedule.from_scheduler` takes.
        text: text embeddings (b, n, d), any device.
        compute_dtype: see `UNetDenoiser`.

    Raises:
        ValueError: the scheduler says that the model predicts something else than it does, as far as that is known.
    """
    schedule = NoiseSchedule.from_scheduler(scheduler)
    if video_unet.prediction_type not in (None, schedule.prediction_type):
        raise ValueError(
            f"This model predicts {video_unet.prediction_type!r}, the scheduler given says "
            f"{schedule.prediction_type!r}: give the scheduler that came with the model, model.scheduler."
        )
    return UNetDenoiser(video_unet, schedule, as_conditioning(text).to(video_unet.device), compute_dtype)


def to_float32(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor as float32 on `device`: the type in which latents are stored between two steps."""
    return tensor.to(device=device, dtype=torch.float32)
