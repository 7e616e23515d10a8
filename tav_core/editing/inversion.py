"""DDIM inversion: the noise from which the model would draw the clip (arXiv:2212.11565, section 3.3).

The deterministic DDIM step walked backwards (Song et al., arXiv:2010.02502) from the clean latents to the highest level
of noise, without guidance. At each step the prediction at the coming timestep is made from the latents of the present
one, which lie a little lower in noise; this is the approximation that inversion rests on. Refinement removes it: the
latents that sampling would bring to the present ones are a fixed point, which repeated prediction at the coming latents
approaches. Plain iteration creeps or diverges at some steps; Anderson mixing of the latest predictions does not (Pan et
al., arXiv:2309.04907, section 3.2). Sampled again under the same prompt without guidance, the noise gives the clip.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import check_type, raise_unless_finite
from ..conditioning import Conditioning
from ..diffusion.ddim import ddim_inverse_step, undo_ddim_step
from ..diffusion.denoiser import Denoiser, to_float32, unet_denoiser
from ..diffusion.schedule import raise_unless_ddim
from ..unet.video_unet import VideoUNet, check_inputs
from .config import InversionConfig

MIXED = 4  # predictions of a step, the latest, that are mixed


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
    encoder_hidden_states: Tensor | Conditioning,
    scheduler: Any,
    config: InversionConfig = InversionConfig(),
) -> Iterator[InversionStep]:
    """Invert a clip to noise.

    Arguments:
        video_unet: the inflated model, tuned on the clip.
        latents: the clean clip, (b, c, f, h, w), scaled by the VAE's factor; any floating type and device.
        encoder_hidden_states: (b, n, d); published is the embedding of the empty prompt.
        scheduler: the model's DDIM scheduler or its config, read for betas, prediction type and spacing of timesteps.
        config: how to invert.

    Yields:
        An InversionStep for each timestep, rising; the last one holds the noise. To start sampling partway, take the
        one at the first of `NoiseSchedule.timesteps(num_inference_steps, denoise)`.

    Raises:
        FloatingPointError: if a step gives numbers that are not finite.
        TypeError, ValueError: if a shape, a type or a number does not fit.
    """
    check_inputs(video_unet, latents, encoder_hidden_states=encoder_hidden_states)
    check_type("config", config, InversionConfig)
    raise_unless_ddim(scheduler)
    denoiser = unet_denoiser(video_unet, scheduler, encoder_hidden_states)
    for step in ddim_invert(denoiser, to_float32(latents, video_unet.device), config):
        yield InversionStep(step.timestep, step.latents.to(latents.device))


def ddim_invert(denoiser: Denoiser, x_0: Tensor, config: InversionConfig) -> Iterator[InversionStep]:
    """DDIM inversion over any denoiser.

    Arguments:
        denoiser: what predicts, without guidance.
        x_0: clean latents (b, c, f, h, w), float32, on the denoiser's device.
        config: how to invert.
    """
    x_s, schedule = x_0, denoiser.schedule
    for t, s in reversed(schedule.steps(config.num_inference_steps)):
        present, coming = schedule.alpha(s), schedule.alpha(t)
        with torch.no_grad():
            x_t = ddim_inverse_step(x_s, denoiser(x_s, t), present, coming, schedule.prediction_type)
            if config.refinements:
                x_t = _refine(denoiser, x_s, x_t, (s, t), config)
        raise_unless_finite(x_t, f"Inversion to timestep {t}")
        yield InversionStep(t, x_t.contiguous())  # laid out as in a file: rounding depends on it
        x_s = x_t


def _refine(denoiser: Denoiser, x_s: Tensor, x_t: Tensor, step: tuple[int, int], config: InversionConfig) -> Tensor:
    """Iterate x_t towards the latents that a sampling step would bring to x_s."""
    schedule, (s, t) = denoiser.schedule, step
    present, coming = schedule.alpha(s), schedule.alpha(t)
    tries: list[tuple[Tensor, Tensor]] = []
    for _ in range(config.refinements):
        exact = undo_ddim_step(x_s, denoiser(x_t, t), coming, present, schedule.prediction_type)
        raise_unless_finite(exact, f"Inversion to timestep {t}")
        moved = exact - x_t
        tries = [*tries, (exact, moved)][-MIXED:]
        x_t = _mixed(tries)
        if (_lengths(moved) <= config.tolerance * _lengths(exact)).all():
            break
    return x_t


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
