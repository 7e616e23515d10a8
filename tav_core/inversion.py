"""DDIM inversion: the noise from which the model would draw the clip (arXiv:2212.11565, section 3.3).

The deterministic DDIM step walked backwards (Song et al., arXiv:2010.02502) from the clean latents to the highest level
of noise, without guidance. At each step the prediction at the coming timestep is made from the latents of the present
one, which lie a little lower in noise; this is the approximation that inversion rests on. Refinement removes it: the
latents that sampling would bring to the present ones are a fixed point, which repeated prediction at the coming latents
nears (Pan et al., arXiv:2309.04907). Sampled again under the same prompt without guidance, they return to the clip.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .checks import MAX_STEPS, check_kind, check_whole
from .frames import model_float32, refuse_non_finite
from .inflation import VideoUNet, check_inputs
from .schedule import NoiseSchedule, ddim_inverse_step, undo_ddim_step


@dataclass(frozen=True)
class InversionConfig:
    """How to invert.

    Attributes:
        num_inference_steps: the steps; as many as sampling will take.
        refinements: predictions more for each step, each of which brings it nearer to the exact one; 0 as published.
    """

    num_inference_steps: int = 50
    refinements: int = 0

    def __post_init__(self) -> None:
        check_whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        check_whole("refinements", self.refinements, 0, MAX_STEPS)


@dataclass(frozen=True)
class InversionStep:
    """One step of inversion.

    Attributes:
        timestep: the noise level at which `latents` lie.
        latents: (b, c, f, h, w), float32, on the device of the latents given.
    """

    timestep: int
    latents: Tensor


def invert(
    video_unet: VideoUNet,
    latents: Tensor,
    encoder_hidden_states: Tensor,
    scheduler: Any,
    config: InversionConfig = InversionConfig(),
) -> Iterator[InversionStep]:
    """Invert a clip to noise.

    Arguments:
        video_unet: the inflated model, tuned on the clip.
        latents: the clean clip, (b, c, f, h, w), scaled by the VAE's factor; any floating type and device.
        encoder_hidden_states: (b, n, d); published is the embedding of the empty prompt.
        scheduler: a diffusers scheduler or its config, read for betas and prediction type.
        config: how to invert.

    Yields:
        An InversionStep for each timestep, rising; the last one holds the noise. To start sampling partway, take the
        one at the first of `NoiseSchedule.timesteps(num_inference_steps, denoise)`.

    Raises:
        FloatingPointError: if a step comes to numbers that are not finite.
        TypeError, ValueError: if a shape, a type or a number does not fit.
    """
    check_inputs(video_unet, latents, encoder_hidden_states=encoder_hidden_states)
    check_kind("config", config, InversionConfig)
    schedule = NoiseSchedule.from_scheduler(scheduler)
    stride = schedule.stride(config.num_inference_steps)
    current = model_float32(latents, video_unet.device)
    text = encoder_hidden_states.to(video_unet.device)
    for timestep in reversed(schedule.timesteps(config.num_inference_steps)):
        with torch.no_grad():
            prediction = video_unet(current, timestep, text)
            present, coming = schedule.alpha(timestep - stride), schedule.alpha(timestep)
            noisier = ddim_inverse_step(current, prediction, present, coming, schedule.prediction_type)
            for _ in range(config.refinements):
                prediction = video_unet(noisier, timestep, text)
                noisier = undo_ddim_step(current, prediction, coming, present, schedule.prediction_type)
            current = noisier
        refuse_non_finite(current, f"Inversion to timestep {timestep}")
        yield InversionStep(timestep, current.to(latents.device))
