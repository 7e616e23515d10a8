"""Noise levels: what a model was trained on, and the timesteps of sampling and inversion.

A latent at timestep t is  x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise,  with a_t = alphas_cumprod[t]; see `ddim.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import MAX_NUMBERS, MAX_SEED, MAX_STEPS, check_choice, check_integer, check_number, shown

BETA_KEYS = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr"
)  # fmt: skip
PREDICTION_TYPES = ("epsilon", "v_prediction")
_ZERO_SNR = 1e-4  # of alphas_cumprod at the noisiest level
SPACINGS = ("leading", "trailing", "linspace", "lcm")
LCM_STEPS = 50  # of the schedule that latent consistency models are distilled from
HIGH_NOISE = 0.4  # share of the timesteps, from the clean end, above which sampling decides on layout and outlines


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The noise levels that a model was trained on, and what it predicts.

    Attributes:
        alphas_cumprod: a_t for each training timestep, (num_train_timesteps,), float64 on the CPU, falling.
        prediction_type: "epsilon" or "v_prediction".
        timestep_spacing: how `timesteps` are spread, in diffusers' words; "leading" as published.
    """

    alphas_cumprod: Tensor
    prediction_type: str
    timestep_spacing: str = "leading"

    def __post_init__(self) -> None:
        check_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> "NoiseSchedule":
        """Read betas, prediction type and spacing of timesteps, and nothing else, from a scheduler or its config.

        Arguments:
            scheduler: a diffusers scheduler, its config (a mapping), or a NoiseSchedule, which is returned as it is.

        Raises:
            TypeError: if it is none of these.
            ValueError: if it has no betas (flow matching) or predicts something else.
        """
        if isinstance(scheduler, cls):
            return scheduler
        config = getattr(scheduler, "config", scheduler)
        if not isinstance(config, Mapping):
            raise TypeError(f"Expected a diffusers scheduler or its config, got {type(scheduler).__name__}.")
        if "beta_schedule" not in config and config.get("trained_betas") is None:
            name = config.get("_class_name", type(scheduler).__name__)
            raise ValueError(
                f"{name} has no betas. Tune-A-Video takes models trained on a "
                "DDPM schedule (Stable Diffusion 1 and 2); pass the scheduler that came with the model."
            )
        prediction_type = config.get("prediction_type", "epsilon")
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"prediction_type is one of {PREDICTION_TYPES}, got {shown(prediction_type)}.")
        betas = {key: config[key] for key in BETA_KEYS if config.get(key) is not None}
        check_integer("num_train_timesteps", betas.get("num_train_timesteps", 1), 1, MAX_STEPS)
        from diffusers import DDIMScheduler  # takes seconds to import, and a schedule may be made of alphas_cumprod

        try:
            with torch.inference_mode(False):
                alphas_cumprod = DDIMScheduler(**betas).alphas_cumprod.double()
        except Exception as error:  # diffusers checks nothing: whatever it stumbles over, these are no betas
            raise ValueError(f"No betas can be made of {shown(betas)}; pass the model's own scheduler.") from error
        levels = alphas_cumprod.ndim == 1 and alphas_cumprod.numel() > 0
        if not levels or not ((alphas_cumprod >= 0) & (alphas_cumprod <= 1)).all():
            raise ValueError(
                f"Betas must lie in [0, 1], not as {shown(betas)} has them; pass the model's own scheduler."
            )
        return cls(alphas_cumprod, prediction_type, config.get("timestep_spacing") or "leading")

    @property
    def has_zero_snr(self) -> bool:
        """Whether the noisiest level holds next to no signal (arXiv:2305.08891). Usual schedules end at 0.0047."""
        return float(self.alphas_cumprod[-1]) < _ZERO_SNR

    @property
    def num_train_timesteps(self) -> int:
        """The number of noise levels of training."""
        return len(self.alphas_cumprod)

    def alpha(self, timestep: int) -> float:
        """alphas_cumprod at a timestep. Below zero lies the clean clip, at the level of timestep 0 as published."""
        return float(self.alphas_cumprod[max(timestep, 0)])

    def stride(self, num_inference_steps: int) -> int:
        """The distance of two timesteps that follow each other in `timesteps`.

        Raises:
            ValueError: if there are no steps, or more than in training.
        """
        check_integer("num_inference_steps", num_inference_steps, 1, self.num_train_timesteps)
        return self.num_train_timesteps // num_inference_steps

    def timesteps(self, num_inference_steps: int, denoise: float = 1.0) -> list[int]:
        """The timesteps of sampling, falling; inversion takes them in rising order.

        "Leading" spacing with an offset of one, as published: 981, 961, .. 1 for 50 steps of 1000. The offset is left
        out where it would pass the last timestep of training. "Trailing": 999, 979, .. 19; "linspace": 999, .. 0;
        "lcm", of distilled models and LoRAs of 4 to 8 steps: 999, 759, 499, 259 for 4.

        To start partway, give latents at the level of the first timestep returned: either
        `add_noise(latents, noise, timesteps[0])`, or the step of `invert` that has this timestep.

        Arguments:
            num_inference_steps: the number of steps of the whole schedule.
            denoise: the share of them that is run, in (0, 1]; those with the least noise are kept, at least one.
        """
        check_number("denoise", denoise, 0, 1, without="low")
        check_choice("timestep_spacing", self.timestep_spacing, SPACINGS)
        stride = self.stride(num_inference_steps)
        kept = max(1, round(denoise * num_inference_steps))
        if self.timestep_spacing != "leading":
            return self._spread(num_inference_steps)[-kept:]
        offset = min(1, self.num_train_timesteps - 1 - (num_inference_steps - 1) * stride)
        return [index * stride + offset for index in reversed(range(kept))]

    def steps(self, num_inference_steps: int, denoise: float = 1.0) -> list[tuple[int, int]]:
        """The timesteps of sampling with the target of each step, falling: (981, 961), .. (1, -19) for 50 of 1000.

        Arguments:
            num_inference_steps, denoise: see `timesteps`.
        """
        timesteps = self.timesteps(num_inference_steps, denoise)
        if self.timestep_spacing != "leading":
            return list(zip(timesteps, [*timesteps[1:], -1], strict=True))
        stride = self.stride(num_inference_steps)
        return [(t, t - stride) for t in timesteps]

    def _spread(self, num_inference_steps: int) -> list[int]:
        """All timesteps, falling, as diffusers spreads them where spacing is not leading."""
        last = self.num_train_timesteps - 1
        if self.timestep_spacing == "trailing":
            stride = self.num_train_timesteps / num_inference_steps
            return [round(self.num_train_timesteps - index * stride) - 1 for index in range(num_inference_steps)]
        if self.timestep_spacing == "lcm":
            check_integer("num_inference_steps with lcm spacing", num_inference_steps, 1, LCM_STEPS)
            stride = self.num_train_timesteps // LCM_STEPS
            kept = [index * LCM_STEPS // num_inference_steps for index in range(num_inference_steps)]
            return [(LCM_STEPS - index) * stride - 1 for index in kept]
        gaps = max(1, num_inference_steps - 1)
        return [round(index * last / gaps) for index in reversed(range(num_inference_steps))]

    def is_high_noise(self, timestep: int) -> bool:
        """Whether a timestep belongs to the noisy part, in which sampling decides on the layout."""
        return timestep >= HIGH_NOISE * self.num_train_timesteps

    def add_noise(self, latents: Tensor, noise: Tensor, timestep: int | Tensor) -> Tensor:
        """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise for a timestep, or one for each clip, (b,)."""
        signal, sigma = self._signal_and_sigma(timestep, latents)
        return signal * latents + sigma * noise

    def training_target(self, latents: Tensor, noise: Tensor, timestep: int | Tensor) -> Tensor:
        """What the model is to predict at x_t: the noise, or the velocity sqrt(a_t) noise - sqrt(1 - a_t) x_0."""
        if self.prediction_type == "epsilon":
            return noise
        signal, sigma = self._signal_and_sigma(timestep, latents)
        return signal * noise - sigma * latents

    def min_snr_weight(self, timestep: Tensor, gamma: float) -> Tensor:
        """Weight of the loss at each timestep (Hang et al., arXiv:2303.09556): min(snr, gamma) over the loss's own snr.

        Arguments:
            timestep: (b,) on the CPU.
            gamma: the signal-to-noise ratio above which a timestep loses weight; 5 in the paper.

        Returns:
            (b,), float32: min(snr, gamma) / snr for epsilon and min(snr, gamma) / (snr + 1) for v.
        """
        alpha = self.alphas_cumprod[timestep]
        snr = alpha / (1 - alpha)
        if self.prediction_type == "epsilon":
            return (gamma / snr).clamp(max=1).float()
        return (snr.clamp(max=gamma) / (snr + 1)).float()

    def _signal_and_sigma(self, timestep: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alphas_cumprod[torch.as_tensor(timestep, device="cpu")].reshape(-1, *[1] * (like.ndim - 1))
        # The type first, then the device: some devices have no float64.
        signal, sigma = alpha.sqrt().to(like.dtype), (1 - alpha).sqrt().to(like.dtype)
        return signal.to(like.device), sigma.to(like.device)


def raise_unless_ddim(scheduler: Any) -> None:
    """Raise unless a scheduler makes DDIM steps. A config and a NoiseSchedule make none, and are read for noise levels.

    Raises:
        ValueError: for another scheduler of diffusers, whose steps would not be taken.
    """
    kinds = {kind.__name__ for kind in type(scheduler).__mro__}
    if hasattr(scheduler, "step") and not kinds & {"DDIMScheduler", "DDIMInverseScheduler"}:
        name = type(scheduler).__name__
        raise ValueError(
            f"The steps are those of DDIM, and {name} makes others: give it as `sampler`, and the model's DDIM "
            "scheduler as `scheduler`; or give NoiseSchedule.from_scheduler(scheduler), to read its noise levels alone."
        )


def plain_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise, float32, drawn on the CPU: the same on every device.

    Arguments:
        shape: of the latents, (b, c, f, h, w).
        seed: of a generator of its own; the global one is not touched.

    Raises:
        ValueError: if it is no such shape, or too large.
    """
    if not isinstance(shape, (tuple, list)) or len(shape) != 5:
        raise ValueError(f"shape must be (batch, channels, frames, height, width), not {shown(shape)}.")
    for axis, size in enumerate(shape):
        check_integer(f"shape[{axis}]", size, 1, MAX_NUMBERS)
    check_integer("the product of shape", math.prod(shape), 1, MAX_NUMBERS)
    check_integer("seed", seed, 0, MAX_SEED)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
