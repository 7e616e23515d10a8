"""Sampling the edit: DDIM with classifier-free guidance from the inverted noise (arXiv:2212.11565, section 3.3).

    prediction = negative + guidance_scale (positive - negative)        `diffusion/guidance.py`
    x_s = step(x_t, prediction)                                         `editing/samplers.py`, `diffusion/ddim.py`

for each timestep t, falling, with s the next one below.
"""

import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..checks import check_type
from ..conditioning import Conditioning
from ..diffusion.denoiser import Denoiser, to_float32, unet_denoiser
from ..diffusion.guidance import CFG
from ..diffusion.schedule import NoiseSchedule, raise_unless_ddim
from ..unet.attention import AttentionControl
from ..unet.video_unet import VideoUNet, check_inputs
from .config import SamplingConfig
from .prompt_to_prompt import Controlled
from .samplers import SamplingStep as SamplingStep
from .samplers import as_sampler
from .samplers import ddim_sample as ddim_sample

LEAST_CORRELATION = 0.1  # of neighbouring pixels, as a share of the signal's
DEVIATIONS = 4  # by which chance must be smaller


def sample(
    video_unet: VideoUNet,
    noise: Tensor,
    positive: Tensor | Conditioning,
    negative: Tensor | Conditioning | None,
    scheduler: Any,
    config: SamplingConfig = SamplingConfig(),
    *,
    sampler: Any = None,
) -> Iterator[SamplingStep]:
    """Sample a clip under a prompt.

    Arguments:
        video_unet: the inflated model, tuned on the source clip.
        noise: latents at the level of the first timestep, (b, c, f, h, w): the last step of `invert`, `plain_noise`, or
            with denoise below 1 what `NoiseSchedule.timesteps` says. Any floating type and device.
        positive: the embedding of the edit's prompt, (b, n, d).
        negative: the embedding to guide away from, (b, m, d), m may differ from n; None without guidance.
        scheduler: the model's DDIM scheduler or its config, read for betas, prediction type and spacing of timesteps.
        config: how to sample.
        sampler: a `Sampler`, or a scheduler of diffusers that is to make the steps; None for DDIM, as published.

    Yields:
        A SamplingStep for each timestep, falling; the last one holds the edit.

    Raises:
        FloatingPointError: if a step gives numbers that are not finite.
        TypeError, ValueError: if a shape, a type or a number does not fit, or guidance lacks a negative embedding.

    Warns:
        UserWarning: with denoise below 1, the latents look like noise that holds nothing of a clip.
    """
    check_sampling(video_unet, noise, config, negative, positive=positive)
    run = as_sampler(sampler)
    if sampler is not None:
        scheduler = NoiseSchedule.from_scheduler(scheduler)
    denoiser = guided_denoiser(video_unet, positive, negative, scheduler, config)
    _warn_of_pure_noise(noise, denoiser.schedule, config)
    for step in run(denoiser, to_float32(noise, video_unet.device), config):
        clean = None if step.clean is None else step.clean.to(noise.device)
        yield SamplingStep(step.timestep, step.latents.to(noise.device), clean)


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
    """The model under a prompt, guided as the config says, for DDIM steps. A control acts on the positive part alone.

    Raises:
        ValueError: the scheduler makes other steps than DDIM.
    """
    raise_unless_ddim(scheduler)
    plain = unet_denoiser(video_unet, scheduler, positive)
    under_positive = plain if control is None else Controlled(plain, control)
    if not config.guided or negative is None:
        return under_positive
    under_negative = unet_denoiser(video_unet, plain.schedule, negative)
    scales = config.guidance_scale, config.guidance_rescale, config.high_noise_guidance_scale
    return CFG(under_positive, under_negative, *scales)


def _warn_of_pure_noise(latents: Tensor, schedule: NoiseSchedule, config: SamplingConfig) -> None:
    """Warn if sampling starts partway from latents in which nothing of a clip is to be seen.

    Neighbouring pixels of a clip are alike, those of noise are not: their correlation is a large part of the share of
    the signal at that level. Nothing is said where so few pixels do not tell.
    """
    share = schedule.alpha(schedule.timesteps(config.num_inference_steps, config.denoise)[0])
    least = LEAST_CORRELATION * share
    if config.denoise == 1 or least * latents.numel() ** 0.5 < DEVIATIONS:
        return
    x = latents.detach().float()
    pairs = [(x[..., 1:, :], x[..., :-1, :]), (x[..., 1:], x[..., :-1]), (x[:, :, 1:], x[:, :, :-1])]
    correlation = max(float((first * second).sum()) for first, second in pairs) / float(x.square().sum())
    if correlation < least:
        warnings.warn(
            f"Sampling starts partway (denoise {config.denoise}), where latents are to hold the clip, but they look "
            "like pure noise: set denoise to 1, or start from schedule.add_noise(clip, noise, timesteps[0]).",
            stacklevel=3,
        )
