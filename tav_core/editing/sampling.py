"""Sampling the edit: DDIM with classifier-free guidance from the inverted noise (arXiv:2212.11565, section 3.3).

    prediction = negative + guidance_scale (positive - negative)        Ho and Salimans, arXiv:2207.12598

and a DDIM step for each timestep, falling (Song et al., arXiv:2010.02502, equation 12).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..checks import MAX_SEED, MAX_STEPS, check_kind, check_number, check_whole
from ..diffusion.schedule import NoiseSchedule, ddim_step
from ..unet.frames import model_float32, refuse_non_finite
from ..unet.inflate import VideoUNet, check_inputs

ONE_BATCH_PIXELS = 8192  # latent pixels of all frames up to which guidance is one batch: 8 frames of 256 x 256 pixels


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
        early_guidance_scale: the scale in the noisy part of the schedule (`NoiseSchedule.early`), where it is decided
            what lies where; None for the same all along (guidance by parts: Kynkaanniemi et al., arXiv:2404.07724).
    """

    num_inference_steps: int = 50
    guidance_scale: float = 12.5
    eta: float = 0.0
    seed: int = 0
    guidance_rescale: float = 0.0
    denoise: float = 1.0
    early_guidance_scale: float | None = None

    def __post_init__(self) -> None:
        check_whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        check_number("guidance_scale", self.guidance_scale, 0, 1000)
        check_number("eta", self.eta, 0, 1)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_number("guidance_rescale", self.guidance_rescale, 0, 1)
        check_number("denoise", self.denoise, 0, 1, without="low")
        if self.early_guidance_scale is not None:
            check_number("early_guidance_scale", self.early_guidance_scale, 0, 1000)

    @property
    def guided(self) -> bool:
        """Whether any step asks for guidance."""
        return any(scale not in (None, 1) for scale in (self.guidance_scale, self.early_guidance_scale))

    def at(self, timestep: int, schedule: NoiseSchedule) -> "SamplingConfig":
        """The settings of one step: those with `early_guidance_scale` as the scale where it applies."""
        if self.early_guidance_scale is None or not schedule.early(timestep):
            return self
        return replace(self, guidance_scale=self.early_guidance_scale)


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
        FloatingPointError: if a step comes to numbers that are not finite.
        TypeError, ValueError: if a shape, a type or a number does not fit, or guidance lacks a negative embedding.
    """
    check_sampling(video_unet, noise, config, negative, positive=positive)
    schedule = NoiseSchedule.from_scheduler(scheduler)
    stride = schedule.stride(config.num_inference_steps)
    current = model_float32(noise, video_unet.device)
    positive = positive.to(video_unet.device)
    negative = guiding_negative(negative, config, video_unet.device)
    generator = torch.Generator().manual_seed(config.seed)
    for timestep in schedule.timesteps(config.num_inference_steps, config.denoise):
        with torch.no_grad():
            now = config.at(timestep, schedule)
            prediction = guided_prediction(video_unet, current, timestep, positive, negative, now)
            fresh = torch.randn(current.shape, generator=generator).to(current.device) if config.eta > 0 else None
            present, coming = schedule.alpha(timestep), schedule.alpha(timestep - stride)
            current = ddim_step(current, prediction, present, coming, schedule.prediction_type, config.eta, fresh)
        refuse_non_finite(current, f"Sampling at timestep {timestep}")
        yield SamplingStep(timestep, current.to(noise.device))


def check_sampling(
    video_unet: VideoUNet, latents: Tensor, config: SamplingConfig, negative: Tensor | None, **embeddings: Tensor
) -> None:
    """Refuse what cannot be sampled, before the first step: `check_inputs`, where `negative` may be left out.

    Raises:
        TypeError, ValueError: as `check_inputs`.
    """
    check_kind("config", config, SamplingConfig)
    check_inputs(video_unet, latents, **embeddings | ({} if negative is None else {"negative": negative}))


def guiding_negative(negative: Tensor | None, config: SamplingConfig, device: torch.device) -> Tensor | None:
    """The negative embedding as `guided_prediction` takes it: None where no scale asks for guidance.

    Raises:
        ValueError: guidance without a negative embedding.
    """
    if not config.guided:
        return None
    if negative is None:
        scale = config.guidance_scale if config.guidance_scale != 1 else config.early_guidance_scale
        raise ValueError(f"guidance_scale {scale} needs a negative embedding; give one, or scale 1.")
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

    Small clips go through once with both prompts, which reads the weights once. Large ones go through twice: there the
    weights hardly count, and the peak of memory is half. So do prompts of unlike length.

    Arguments:
        negative: None for no guidance.
    """
    if negative is None or config.guidance_scale == 1:
        return video_unet(latents, timestep, positive)
    if positive.shape == negative.shape and latents[:, 0].numel() <= ONE_BATCH_PIXELS:
        twice, prompts = torch.cat([latents, latents]), torch.cat([positive, negative])
        conditional, unconditional = video_unet(twice, timestep, prompts).chunk(2)
    else:
        conditional = video_unet(latents, timestep, positive)
        unconditional = video_unet(latents, timestep, negative)
    guided = unconditional + config.guidance_scale * (conditional - unconditional)
    if config.guidance_rescale == 0:
        return guided
    every_axis = (1, 2, 3, 4)
    rescaled = guided * conditional.std(every_axis, keepdim=True) / guided.std(every_axis, keepdim=True)
    return config.guidance_rescale * rescaled + (1 - config.guidance_rescale) * guided
