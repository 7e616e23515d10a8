"""Sampling the edit: DDIM with classifier-free guidance from the inverted noise (arXiv:2212.11565, section 3.3).

    prediction = negative + guidance_scale (positive - negative)        `diffusion/guidance.py`
    x_s = step(x_t, prediction)                                         `diffusion/ddim.py`

for each timestep t, falling, with s the next one below.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import check_type, raise_unless_finite
from ..conditioning import Conditioning
from ..diffusion.ddim import ddim_step
from ..diffusion.denoiser import Denoiser, to_float32, unet_denoiser
from ..diffusion.guidance import CFG
from ..unet.attention import AttentionControl
from ..unet.video_unet import VideoUNet, check_inputs
from .config import SamplingConfig
from .prompt_to_prompt import Controlled


@dataclass(frozen=True)
class SamplingStep:
    """One step of sampling.

    Attributes:
        timestep: of the prediction; `latents` lie one step below.
        latents: (b, c, f, h, w), float32, on the device of the noise given.
    """

    timestep: int
    latents: Tensor


def sample(
    video_unet: VideoUNet,
    noise: Tensor,
    positive: Tensor | Conditioning,
    negative: Tensor | Conditioning | None,
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
        FloatingPointError: if a step gives numbers that are not finite.
        TypeError, ValueError: if a shape, a type or a number does not fit, or guidance lacks a negative embedding.
    """
    check_sampling(video_unet, noise, config, negative, positive=positive)
    denoiser = guided_denoiser(video_unet, positive, negative, scheduler, config)
    for step in ddim_sample(denoiser, to_float32(noise, video_unet.device), config):
        yield SamplingStep(step.timestep, step.latents.to(noise.device))


def ddim_sample(denoiser: Denoiser, x_t: Tensor, config: SamplingConfig) -> Iterator[SamplingStep]:
    """DDIM over any denoiser.

    Arguments:
        denoiser: what predicts.
        x_t: latents at the level of the first timestep, (b, c, f, h, w), float32, on the denoiser's device.
        config: read for steps, denoise, eta and seed.
    """
    schedule, generator = denoiser.schedule, torch.Generator().manual_seed(config.seed)
    for t, s in schedule.steps(config.num_inference_steps, config.denoise):
        with torch.no_grad():
            prediction = denoiser(x_t, t)
            fresh = torch.randn(x_t.shape, generator=generator).to(x_t.device) if config.eta > 0 else None
            levels = schedule.alpha(t), schedule.alpha(s)
            x_t = ddim_step(x_t, prediction, *levels, schedule.prediction_type, config.eta, fresh)
        raise_unless_finite(x_t, f"Sampling at timestep {t}")
        yield SamplingStep(t, x_t)


def check_sampling(
    video_unet: VideoUNet,
    latents: Tensor,
    config: SamplingConfig,
    negative: Tensor | Conditioning | None,
    **embeddings: Tensor | Conditioning,
) -> None:
    """Check what is to be sampled before the first step: `check_inputs`, where `negative` may be left out.

    Raises:
        TypeError, ValueError: as `check_inputs`, or guidance without a negative embedding.
    """
    check_type("config", config, SamplingConfig)
    check_inputs(video_unet, latents, **embeddings | ({} if negative is None else {"negative": negative}))
    if config.guided and negative is None:
        scale = config.guidance_scale if config.guidance_scale != 1 else config.high_noise_guidance_scale
        raise ValueError(f"guidance_scale {scale} needs a negative embedding; give one, or scale 1.")


def guided_denoiser(
    video_unet: VideoUNet,
    positive: Tensor | Conditioning,
    negative: Tensor | Conditioning | None,
    scheduler: Any,
    config: SamplingConfig,
    control: AttentionControl | None = None,
) -> Denoiser:
    """The model under a prompt, guided as the config says. A control acts on the positive prediction alone."""
    plain = unet_denoiser(video_unet, scheduler, positive)
    under_positive = plain if control is None else Controlled(plain, video_unet, control)
    if not config.guided or negative is None:
        return under_positive
    under_negative = unet_denoiser(video_unet, plain.schedule, negative)
    scales = config.guidance_scale, config.guidance_rescale, config.high_noise_guidance_scale
    return CFG(under_positive, under_negative, *scales)
