"""The forward passes of tuning: what is drawn for each, and the losses that are minimised in it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.denoiser import UNetDenoiser, to_float32
from ..diffusion.schedule import NoiseSchedule
from ..editing.windows import Led, Window
from .config import TuningConfig
from .objective import NoisePrediction, Objective
from .spatial import SpatialUpdates
from .state import TuningState


@dataclass(frozen=True, eq=False)
class Draw:
    """What a forward pass is made at.

    Attributes:
        noise: like the latents of all clips, (b, c, f, h, w).
        timestep: of each clip, (b,) on the CPU.
        window: of frames; None for all.
        clips: those that the pass sees, of b.
        frame: that of the loss of single frames, where weights are trained on them.
    """

    noise: Tensor
    timestep: Tensor
    window: Window | None
    clips: list[int]
    frame: int = 0


def draws(
    latents: Tensor,
    schedule: NoiseSchedule,
    config: TuningConfig,
    state: TuningState,
    noise: Sequence[Tensor] | Tensor | None,
    timesteps: Sequence[int] | Sequence[Tensor] | Tensor | None,
) -> Iterator[Draw]:
    """A draw for each forward pass that is left to make.

    Arguments:
        latents: of all clips, (b, c, f, h, w).
        state: whose generator is drawn from.
        noise, timesteps: of each forward pass, in place of drawn ones; None to draw.

    Raises:
        ValueError: one that was given does not fit.
    """
    passes = config.steps * config.gradient_accumulation_steps
    for name, given in (("noise", noise), ("timesteps", timesteps)):
        if given is not None and len(given) < passes:
            raise ValueError(f"{name} holds {len(given)} draws, {passes} forward passes need as many.")
    drawn_below = max(1, round(config.timestep_range * schedule.num_train_timesteps))
    num_clips, num_frames = latents.shape[0], latents.shape[2]
    for index in range(len(state.steps) * config.gradient_accumulation_steps, passes):
        drawn_noise = torch.randn(latents.shape, generator=state.generator)
        drawn_timestep = torch.randint(drawn_below, latents.shape[:1], generator=state.generator)
        if noise is not None:
            drawn_noise = noise[index]
            if drawn_noise.shape != latents.shape:
                raise ValueError(f"Noise is like the latents, {tuple(latents.shape)}, got {tuple(drawn_noise.shape)}.")
        if timesteps is not None:
            drawn_timestep = _given_timestep(timesteps[index], num_clips, schedule.num_train_timesteps)
        window = _drawn_window(num_frames, config, state)
        clips = [index % num_clips] if config.clips_in_turn else list(range(num_clips))
        frame = int(torch.randint(num_frames, (), generator=state.generator)) if state.spatial else 0
        yield Draw(drawn_noise, drawn_timestep, window, clips, frame)


def losses(
    denoiser: UNetDenoiser,
    latents: Tensor,
    objective: Objective,
    draw: Draw,
    spatial: SpatialUpdates | None = None,
) -> Generator[Tensor, None, None]:
    """The losses of a forward pass, the objective's last. Go backward through each before the next one is taken.

    Arguments:
        denoiser: under the captions of all clips.
        latents: of all clips, (b, c, f, h, w), float32, on the model's device.
        spatial: updates that train on single frames, by a loss of their own, and act in the objective's.
    """
    noise, timestep = to_float32(draw.noise, latents.device), draw.timestep
    if draw.clips != list(range(len(latents))):
        latents, noise, timestep = latents[draw.clips], noise[draw.clips], timestep[draw.clips]
        denoiser = replace(denoiser, conditioning=denoiser.conditioning.of_clips(draw.clips))
    if spatial is not None:
        with spatial.training(draw.clips):
            frame = slice(draw.frame, draw.frame + 1)
            of_frame = replace(denoiser, conditioning=denoiser.conditioning.of_frames([draw.frame]))
            yield NoisePrediction()(of_frame, latents[:, :, frame], noise[:, :, frame], timestep)
    with spatial.frozen(draw.clips) if spatial is not None else nullcontext():
        yield _objective_of_window(denoiser, latents, objective, noise, timestep, draw.window)


def _objective_of_window(
    denoiser: UNetDenoiser,
    latents: Tensor,
    objective: Objective,
    noise: Tensor,
    timestep: Tensor,
    window: Window | None,
) -> Tensor:
    """The objective's loss, on a window of the clip if one is given. Its leads have none."""
    if window is None:
        return objective(denoiser, latents, noise, timestep)
    leads = denoiser.schedule.add_noise(latents[:, :, window.leads], noise[:, :, window.leads], timestep)
    denoiser = replace(denoiser, conditioning=denoiser.conditioning.of_frames(window.seen))
    return objective(Led(denoiser, leads), latents[:, :, window.frames], noise[:, :, window.frames], timestep)


def _drawn_window(num_frames: int, config: TuningConfig, state: TuningState) -> Window | None:
    """A window at any place of the clip; None where the whole clip is tuned on."""
    length = config.context_length
    if length is None or length >= num_frames:
        return None
    return Window(int(torch.randint(num_frames - length + 1, (), generator=state.generator)), length)


def _given_timestep(given: int | Tensor, clips: int, below: int) -> Tensor:
    timestep = torch.as_tensor(given, device="cpu")
    whole = timestep.dtype in (torch.int32, torch.int64) and timestep.shape in ((), (clips,))
    if not whole or ((timestep < 0) | (timestep >= below)).any():
        wanted = f"a whole number in [0, {below}), or {clips} of them, one for each clip"
        raise ValueError(f"A timestep is {wanted}; got {timestep.tolist()}.")
    return timestep.expand(clips)
