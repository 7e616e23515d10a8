"""What tuning minimises: a loss of the model's prediction at a noised clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:  # settings can be made without the model
    from ..diffusion.denoiser import Denoiser


class Objective(Protocol):
    """A loss for one forward pass."""

    def __call__(self, denoiser: Denoiser, sample: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The loss, (), at clean latents (b, c, f, h, w), noise of that shape, and timesteps (b,) on the CPU."""


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
        schedule = denoiser.schedule
        noisy = schedule.add_noise(sample, noise, t)
        target = schedule.training_target(sample, noise, t)
        errors = (denoiser(noisy, t) - target).square().flatten(1).mean(1)  # (b,)
        if self.min_snr_gamma is not None:
            errors = errors * schedule.min_snr_weight(t, self.min_snr_gamma).to(errors.device)
        return errors.mean()
