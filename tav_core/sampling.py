"""Sampling the edit: DDIM with classifier-free guidance from the inverted noise (arXiv:2212.11565, section 3.3).

    prediction = negative + guidance_scale (positive - negative)        Ho and Salimans, arXiv:2207.12598

and a DDIM step for each timestep, falling (Song et al., arXiv:2010.02502, equation 12).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .frames import model_float32
from .inflation import VideoUNet
from .schedule import NoiseSchedule, ddim_step


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample.

    Attributes:
        num_inference_steps: the steps of the whole schedule; as many as the inversion took.
        guidance_scale: 1 for no guidance, which also saves the pass with the negative prompt.
        eta: 0 for DDIM, 1 for as much fresh noise as DDPM.
        seed: of that fresh noise; without effect at eta 0.
        guidance_rescale: how far to take the guided prediction back to the contrast of the positive one, in [0, 1]
            (Lin et al., arXiv:2305.08891, section 3.4).
        denoise: the share of the schedule that is run, in (0, 1]; see `NoiseSchedule.timesteps`.
    """

    num_inference_steps: int = 50
    guidance_scale: float = 12.5
    eta: float = 0.0
    seed: int = 0
    guidance_rescale: float = 0.0
    denoise: float = 1.0

    def __post_init__(self) -> None:
        if self.num_inference_steps < 1:
            raise ValueError(f"num_inference_steps is at least 1, got {self.num_inference_steps}.")
        if not 0 <= self.guidance_scale < math.inf:
            raise ValueError(f"guidance_scale is finite and not below 0, got {self.guidance_scale}.")
        if not (0 <= self.eta <= 1 and 0 <= self.guidance_rescale <= 1):
            raise ValueError(f"eta and guidance_rescale lie in [0, 1], got {self.eta} and {self.guidance_rescale}.")
        if not 0 < self.denoise <= 1:
            raise ValueError(f"denoise lies in (0, 1], got {self.denoise}.")


@dataclass(frozen=True)
class SamplingStep:
    """One step of sampling.

    Attributes:
        timestep: at which the model was asked; `latents` lie one step below.
        latents: (b, c, f, h, w), float32, on the device of the noise given.
    """

    timestep: int
    latents: Tensor


def sample(
    video_unet: VideoUNet,
    noise: Tensor,
    positive: Tensor,
    negative: Tensor | None,
    scheduler: Any,
    config: SamplingConfig = SamplingConfig(),
) -> Iterator[SamplingStep]:
    """Sample a clip under a prompt.

    Arguments:
        video_unet: the inflated model, tuned on the source clip.
        noise: latents at the level of the first timestep, (b, c, f, h, w): the last step of `invert`, `plain_noise`, or
            with denoise below 1 what `NoiseSchedule.timesteps` says. Any floating type and device.
        positive: the embedding of the edit's prompt, (b, n, d).
        negative: the embedding to guide away from, (b, m, d), m may differ from n; None without guidance.
        scheduler: a diffusers scheduler or its config, read for betas and prediction type.
        config: how to sample.

    Yields:
        A SamplingStep for each timestep, falling; the last one holds the edit.

    Raises:
        ValueError: if a shape does not fit, or guidance lacks a negative embedding.
    """
    schedule = NoiseSchedule.from_scheduler(scheduler)
    stride = schedule.stride(config.num_inference_steps)
    current = model_float32(noise, video_unet.device)
    positive = positive.to(video_unet.device)
    negative = guiding_negative(negative, config, video_unet.device)
    generator = torch.Generator().manual_seed(config.seed)
    for timestep in schedule.timesteps(config.num_inference_steps, config.denoise):
        with torch.no_grad():
            prediction = guided_prediction(video_unet, current, timestep, positive, negative, config)
            fresh = torch.randn(current.shape, generator=generator).to(current.device) if config.eta > 0 else None
            present, coming = schedule.alpha(timestep), schedule.alpha(timestep - stride)
            current = ddim_step(current, prediction, present, coming, schedule.prediction_type, config.eta, fresh)
        yield SamplingStep(timestep, current.to(noise.device))


def guiding_negative(negative: Tensor | None, config: SamplingConfig, device: torch.device) -> Tensor | None:
    """The negative embedding as `guided_prediction` takes it: None where the scale asks for no guidance.

    Raises:
        ValueError: guidance without a negative embedding.
    """
    if config.guidance_scale == 1:
        return None
    if negative is None:
        raise ValueError(f"guidance_scale {config.guidance_scale} needs a negative embedding; give one, or scale 1.")
    return negative.to(device)


def guided_prediction(
    video_unet: VideoUNet,
    latents: Tensor,
    timestep: int,
    positive: Tensor,
    negative: Tensor | None,
    config: SamplingConfig,
) -> Tensor:
    """The model's prediction under classifier-free guidance, (b, c, f, h, w).

    Two passes, not one with twice the batch: prompts may differ in length, and the peak of memory is half.

    Arguments:
        negative: None for no guidance.
    """
    conditional = video_unet(latents, timestep, positive)
    if negative is None:
        return conditional
    unconditional = video_unet(latents, timestep, negative)
    guided = unconditional + config.guidance_scale * (conditional - unconditional)
    if config.guidance_rescale == 0:
        return guided
    every_axis = (1, 2, 3, 4)
    rescaled = guided * conditional.std(every_axis, keepdim=True) / guided.std(every_axis, keepdim=True)
    return config.guidance_rescale * rescaled + (1 - config.guidance_rescale) * guided
