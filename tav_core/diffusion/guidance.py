"""Classifier-free guidance (Ho and Salimans, arXiv:2207.12598) as a denoiser made of two.

    prediction = negative + scale (positive - negative)

At scale 1 this is the positive prediction, and the negative one is not computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .denoiser import Denoiser, UNetDenoiser
from .schedule import NoiseSchedule

ONE_BATCH_PIXELS = 8192  # latent pixels of all frames up to which guidance is one batch: 8 frames of 256 x 256 pixels


@dataclass(frozen=True, eq=False)
class CFG:
    """A denoiser guided from `negative` to `positive`.

    Attributes:
        positive, negative: the model under the prompt and under what to guide away from.
        scale: 1 for no guidance, which also saves the pass with the negative prompt.
        rescale: how far to take the prediction back to the contrast of the positive one, in [0, 1] (Lin et al.,
            arXiv:2305.08891, section 3.4).
        high_noise_scale: the scale at high noise (`NoiseSchedule.is_high_noise`); None for the same at all levels
            (guidance that depends on the noise level: Kynkaanniemi et al., arXiv:2404.07724).
    """

    positive: Denoiser
    negative: Denoiser
    scale: float
    rescale: float = 0.0
    high_noise_scale: float | None = None

    @property
    def schedule(self) -> NoiseSchedule:
        """Both have the same."""
        return self.positive.schedule

    def scale_at(self, t: int | Tensor) -> float:
        """The scale at a timestep."""
        if self.high_noise_scale is None or not self.schedule.is_high_noise(int(t)):
            return self.scale
        return self.high_noise_scale

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """The guided prediction (b, c, f, h, w) at one timestep for all clips."""
        scale = self.scale_at(t)
        if scale == 1:
            return self.positive(x_t, t)
        conditional, unconditional = self._predict_both(x_t, t)
        guided = unconditional + scale * (conditional - unconditional)
        if self.rescale == 0:
            return guided
        every_axis = (1, 2, 3, 4)
        rescaled = guided * conditional.std(every_axis, keepdim=True) / guided.std(every_axis, keepdim=True)
        return self.rescale * rescaled + (1 - self.rescale) * guided

    def _predict_both(self, x_t: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """With and without the prompt.

        Small clips go through once with both prompts, which reads the weights once. Large ones go through twice: there
        the weights hardly count, and the peak of memory is half. So do prompts of unlike length.
        """
        small = x_t[:, 0].numel() <= ONE_BATCH_PIXELS
        both = self.positive.beside(self.negative) if small and isinstance(self.positive, UNetDenoiser) else None
        if both is None:
            return self.positive(x_t, t), self.negative(x_t, t)
        conditional, unconditional = both(x_t.repeat(2, 1, 1, 1, 1), t).chunk(2)
        return conditional, unconditional
