"""What tuning minimises: a loss of the model's prediction at a noised clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from ..checks import MAX_NUMBERS, check_integer, check_number

if TYPE_CHECKING:  # settings can be made without the model
    import torch

    from ..diffusion.denoiser import Denoiser
    from ..unet.video_unet import VideoUNet
    from .spatial import SpatialUpdates


class Objective(Protocol):
    """A loss for one forward pass.

    One that has a method `companion`, as `AppearanceDebiased` has, trains weights beside those that are tuned. They are
    part of the state from which a tuning resumes, and of the memory that is planned, and are gone afterwards.
    """

    def __call__(self, denoiser: Denoiser, sample: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The loss, (), at clean latents (b, c, f, h, w), noise of that shape, and timesteps (b,) on the CPU."""


def companion_of(
    objective: Any, video_unet: VideoUNet, num_clips: int, *, seed: int, device: torch.device
) -> SpatialUpdates | None:
    """The weights that an objective trains beside those that are tuned, made anew; None without any."""
    make = getattr(objective, "companion", None)
    return None if make is None else make(video_unet, num_clips, seed=seed, device=device)


@dataclass(frozen=True)
class NoisePrediction:
    """The mean squared error of the prediction, as published (arXiv:2212.11565, section 3.3).

        || denoiser(x_t, t) - target ||^2       x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise

    The target is the noise or the velocity, whichever the model predicts.

    Attributes:
        min_snr_gamma: weight each clip's loss by min-SNR with this gamma (arXiv:2303.09556); None for equal weights.
    """

    min_snr_gamma: float | None = None

    def __call__(self, denoiser: Denoiser, sample: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """See `Objective`."""
        errors = _errors(denoiser, sample, noise, t).square().flatten(1).mean(1)  # (b,)
        if self.min_snr_gamma is not None:
            errors = errors * denoiser.schedule.min_snr_weight(t, self.min_snr_gamma).to(errors.device)
        return errors.mean()


@dataclass(frozen=True)
class AppearanceDebiased:
    """The temporal loss of MotionDirector (arXiv:2310.08465, section 4.2), for the motion without the looks of a clip.

        || e ||^2  +  || phi(e) ||^2        phi(e)_i = sqrt(beta^2 + 1) e_i - beta e_anchor

    with e = denoiser(x_t, t) - target, frame by frame: phi is linear, so that the difference of what it makes of
    prediction and target is what it makes of e. An error that all frames share, of how the clip looks, counts little.
    The paper draws the anchor among the frames; here the mean over all anchors is taken, which is that loss's
    expectation and adds no noise:

        mean_i,a || phi(e)_i ||^2  =  (2 beta^2 + 1) mean_i || e_i ||^2  -  2 beta sqrt(beta^2 + 1) || mean_i e_i ||^2

    Attributes:
        beta: how much of the anchor is taken away; 1 in the paper.
        rank: of the updates of the image layers, one set for each clip, which learn its looks from single frames and
            are thrown away (`spatial.py`); 32 in the paper's code, 0 for none.
        learning_rate: of these updates; 5e-4 in the paper's code.
    """

    beta: float = 1.0
    rank: int = 32
    learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        check_number("beta", self.beta, 0, 1000)
        check_integer("rank", self.rank, 0, MAX_NUMBERS)
        check_number("learning_rate", self.learning_rate, 0, 1, without="low")

    def __call__(self, denoiser: Denoiser, sample: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """See `Objective`."""
        errors = _errors(denoiser, sample, noise, t)  # b c f h w
        plain, shared = errors.square().mean(), errors.mean(2).square().mean()
        debiased = (2 * self.beta**2 + 1) * plain - 2 * self.beta * (self.beta**2 + 1) ** 0.5 * shared
        return plain + debiased

    def companion(
        self, video_unet: VideoUNet, num_clips: int, *, seed: int, device: torch.device
    ) -> SpatialUpdates | None:
        """The updates that learn the looks of each clip; None at rank 0."""
        if not self.rank:
            return None
        from .spatial import SpatialUpdates  # settings can be made without the model

        options = dict(rank=self.rank, learning_rate=self.learning_rate)
        return SpatialUpdates(video_unet, num_clips, seed=seed, device=device, **options)  # type: ignore[arg-type]


def _errors(denoiser: Denoiser, sample: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The prediction's difference from its target, (b, c, f, h, w)."""
    schedule = denoiser.schedule
    noisy = schedule.add_noise(sample, noise, t)
    return denoiser(noisy, t) - schedule.training_target(sample, noise, t)
