"""DDIM inversion: the noise from which the model would draw the clip (arXiv:2212.11565, section 3.3).

The deterministic DDIM step walked backwards (Song et al., arXiv:2010.02502) from the clean latents to the highest level
of noise, without guidance. At each step the prediction at the coming timestep is made from the latents of the present
one, which lie a little lower in noise; this is the approximation that inversion rests on. Refinement removes it: the
latents that sampling would bring to the present ones are a fixed point, which repeated prediction at the coming latents
nears. Alone it creeps or runs away at some steps; Anderson's mixing of the latest predictions does not (Pan et al.,
arXiv:2309.04907, section 3.2). Sampled again under the same prompt without guidance, they return to the clip.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import MAX_STEPS, check_kind, check_number, check_whole
from ..diffusion.schedule import NoiseSchedule, ddim_inverse_step, undo_ddim_step
from ..unet.frames import model_float32, refuse_non_finite
from ..unet.inflate import VideoUNet, check_inputs

MIXED = 4  # predictions of a step, the latest, that are mixed


@dataclass(frozen=True)
class InversionConfig:
    """How to invert.

    Attributes:
        num_inference_steps: the steps; as many as sampling will take.
        refinements: predictions more for each step at most, each of which brings it nearer to the exact one; 0 as
            published, 10 to come back to the clip.
        tolerance: a step is refined until its latents move by less than this share of their length.
    """

    num_inference_steps: int = 50
    refinements: int = 0
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        check_whole("refinements", self.refinements, 0, MAX_STEPS)
        check_number("tolerance", self.tolerance, 0, 1)


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
            tries: list[tuple[Tensor, Tensor]] = []
            for _ in range(config.refinements):
                prediction = video_unet(noisier, timestep, text)
                exact = undo_ddim_step(current, prediction, coming, present, schedule.prediction_type)
                refuse_non_finite(exact, f"Inversion to timestep {timestep}")
                moved = exact - noisier
                tries = [*tries, (exact, moved)][-MIXED:]
                noisier = _mixed(tries)
                if (_lengths(moved) <= config.tolerance * _lengths(exact)).all():
                    break
            current = noisier
        refuse_non_finite(current, f"Inversion to timestep {timestep}")
        yield InversionStep(timestep, current.to(latents.device))


def likeness(clip: Tensor, again: Tensor) -> float:
    """How near sampling came back to a clip: the clip's variance over the mean squared error, in dB.

    Arguments:
        clip, again: latents of one shape, (b, c, f, h, w), any floating type and device.

    Returns:
        Decibels; inf for the clip itself.

    Raises:
        ValueError: the shapes differ.
    """
    if clip.shape != again.shape:
        raise ValueError(f"Latents of {tuple(clip.shape)} and {tuple(again.shape)} cannot be compared: give one shape.")
    clip, again = clip.float().cpu(), again.float().cpu()
    return float(10 * torch.log10(clip.var() / (again - clip).square().mean()))


def _mixed(tries: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The weighted mean of a function's values whose weights add up to 1 and cancel the moves as far as they can.

    From Anderson, "Iterative Procedures for Nonlinear Integral Equations" (1965). Each clip has weights of its own.

    Arguments:
        tries: the values f(x) and f(x) - x, (b, ...), oldest first.
    """
    values, moves = zip(*tries, strict=True)
    if len(tries) == 1:
        return values[0]
    # (b, n, tries), in float64 on the CPU: not all devices have it, and the moves differ by little
    moved = torch.stack([move.flatten(1).cpu().double() for move in moves], dim=-1)
    others = torch.linalg.lstsq(moved[..., :-1] - moved[..., -1:], -moved[..., -1:], driver="gelsd").solution
    weights = torch.cat([others, 1 - others.sum(1, keepdim=True)], dim=1)[..., 0].float()  # (b, tries)
    return torch.einsum("bt,bt...->b...", weights.to(values[0].device), torch.stack(values, dim=1))


def _lengths(latents: Tensor) -> Tensor:
    """The length of each clip's latents, (b,)."""
    return latents.flatten(1).norm(dim=1)
