"""Samplers: what takes latents from noise to a clip, over any denoiser.

DDIM is the published one and the default. A function of this form is another, and so is a scheduler of diffusers, which
runs as it stands: its own timesteps, its own steps.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..checks import MAX_SEED, check_choice, raise_unless_finite
from ..diffusion.ddim import clean_and_noise, ddim_step
from ..diffusion.denoiser import Denoiser
from ..diffusion.schedule import NoiseSchedule
from .config import SAMPLERS, SamplingConfig

SAME_LEVELS = 1e-3  # by which alphas_cumprod of one model may differ from one scheduler to another
LCM_VARIANCE, LCM_TIMESTEP_SCALING = 0.25, 10  # of the boundary conditions of consistency models
FEW_STRIDES = 2  # steps of the schedule that the first timestep of a scheduler may lie from ours


@dataclass(frozen=True)
class SamplingStep:
    """One step of sampling.

    Attributes:
        timestep: of the prediction; `latents` lie one step below.
        latents: (b, c, f, h, w), float32, on the device of the noise given.
        clean: the clean latents that were predicted in this step, for previews; None from samplers that give none.
    """

    timestep: int
    latents: Tensor
    clean: Tensor | None = None


# sampler(denoiser, x_t, config): from latents at the level of the first of denoiser.schedule.timesteps(
# config.num_inference_steps, config.denoise), (b, c, f, h, w), float32, a SamplingStep for each step.
Sampler = Callable[[Denoiser, Tensor, SamplingConfig], Iterator[SamplingStep]]


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
            clean, _ = clean_and_noise(x_t, prediction, levels[0], schedule.prediction_type)
            x_t = ddim_step(x_t, prediction, *levels, schedule.prediction_type, config.eta, fresh)
        raise_unless_finite(x_t, f"Sampling at timestep {t}")
        yield SamplingStep(t, x_t, clean)


def lcm_sample(denoiser: Denoiser, x_t: Tensor, config: SamplingConfig) -> Iterator[SamplingStep]:
    """Multistep sampling of a latent consistency model (Luo et al., arXiv:2310.04378, algorithm 3), in 4 to 8 steps.

        x_0 = c_skip x_t + c_out clean        x_s = sqrt(a_s) x_0 + sqrt(1 - a_s) z, with fresh noise z

    For distilled models and LoRAs, whose timesteps are those of a schedule with timestep_spacing "lcm".

    Arguments:
        denoiser: what predicts.
        x_t: latents at the level of the first timestep, (b, c, f, h, w), float32, on the denoiser's device.
        config: read for steps, denoise and seed; the noise is that of the next seed, as in ComfyUI, so that it is not
            the noise that sampling started from.
    """
    schedule, generator = denoiser.schedule, torch.Generator().manual_seed((config.seed + 1) % (MAX_SEED + 1))
    for t, s in schedule.steps(config.num_inference_steps, config.denoise):
        with torch.no_grad():
            clean, _ = clean_and_noise(x_t, denoiser(x_t, t), schedule.alpha(t), schedule.prediction_type)
            scaled = (LCM_TIMESTEP_SCALING * t) ** 2
            skip, out = LCM_VARIANCE / (scaled + LCM_VARIANCE), (scaled / (scaled + LCM_VARIANCE)) ** 0.5
            clean = skip * x_t + out * clean
            x_t = clean
            if s >= 0:
                fresh = torch.randn(x_t.shape, generator=generator).to(x_t.device)
                x_t = schedule.add_noise(clean, fresh, s)
        raise_unless_finite(x_t, f"Sampling at timestep {t}")
        yield SamplingStep(t, x_t, clean)


def schedule_of(name: str, schedule: NoiseSchedule) -> NoiseSchedule:
    """The noise levels of a model with the timesteps of one of SAMPLERS, for inversion and sampling."""
    check_choice("sampler", name, list(SAMPLERS))
    spacing = SAMPLERS[name]
    return schedule if spacing is None else replace(schedule, timestep_spacing=spacing)


def sampler_of(name: str, *, source_branch: bool = False) -> Sampler | None:
    """What makes the steps of one of SAMPLERS; None for DDIM.

    Arguments:
        source_branch: whether the edit is source-preserving.

    Raises:
        ValueError: no such name, or a source-preserving edit, which takes DDIM steps.
    """
    check_choice("sampler", name, list(SAMPLERS))
    if name != "lcm":
        return None
    if source_branch:
        raise ValueError(
            "sampler lcm draws fresh noise in each step, and a source-preserving edit takes DDIM steps: set sampler to "
            "ddim_lcm, at the same timesteps, or start from noise."
        )
    return lcm_sample


def as_sampler(sampler: Any) -> Sampler:
    """A sampler from a sampler, a scheduler of diffusers, or None for DDIM.

    Raises:
        TypeError: it is none of these.
    """
    if sampler is None:
        return ddim_sample
    if isinstance(sampler, type) and hasattr(sampler, "from_config"):
        raise TypeError(f"Give a scheduler and no class: {sampler.__name__}.from_config(model.scheduler.config).")
    if hasattr(sampler, "set_timesteps") and hasattr(sampler, "step"):
        return DiffusersSampler(sampler)
    if not callable(sampler):
        raise TypeError(
            f"A sampler is a function (denoiser, x_t, config) or diffusers' scheduler, not {type(sampler).__name__}."
        )
    return _checked(sampler)


def _checked(sampler: Sampler) -> Sampler:
    """The sampler without gradients, with each of its steps checked."""

    def run(denoiser: Denoiser, x_t: Tensor, config: SamplingConfig) -> Iterator[SamplingStep]:
        steps = iter(sampler(denoiser, x_t, config))
        while True:
            with torch.no_grad():  # no mode is held across a yield
                step = next(steps, None)
            if step is None:
                return
            if not isinstance(step, SamplingStep) or step.latents.shape != x_t.shape:
                raise TypeError(
                    f"A sampler yields SamplingStep(timestep, latents), with latents of {tuple(x_t.shape)}."
                )
            raise_unless_finite(step.latents, f"Sampling at timestep {step.timestep}")
            yield step

    return run


@dataclass(frozen=True, eq=False)
class DiffusersSampler:
    """A scheduler of diffusers as a sampler: DPM-Solver++, UniPC, Euler and others.

    It takes its own timesteps. Of the config it is given steps, denoise, and eta and seed where it adds noise. Euler's
    and similar schedulers scale latents by sqrt(1 + sigma^2); that is done here, so that the latents that go in and out
    are those of all other samplers.

    Attributes:
        scheduler: made from the model's own, `DPMSolverMultistepScheduler.from_config(model.scheduler.config)`; copied
            for each run.
    """

    scheduler: Any

    def __call__(self, denoiser: Denoiser, x_t: Tensor, config: SamplingConfig) -> Iterator[SamplingStep]:
        """See `Sampler`.

        Raises:
            ValueError: the scheduler has other noise levels or another prediction type than the model, or starts from
                another level.
        """
        scheduler, schedule = copy.deepcopy(self.scheduler), denoiser.schedule
        self._raise_unless_of(schedule)
        timesteps, skipped = self._start(scheduler, schedule, config, x_t.device)
        scaled = float(scheduler.init_noise_sigma) != 1
        sigmas = scheduler.sigmas.tolist() if scaled else [0.0] * (len(scheduler.timesteps) + 1)
        options = self._options(scheduler, config)
        x = x_t * (1 + sigmas[skipped] ** 2) ** 0.5
        for index, t in enumerate(timesteps, skipped):
            with torch.no_grad():
                prediction = denoiser(scheduler.scale_model_input(x, t), t)
                x = scheduler.step(prediction, t, x, **options).prev_sample
            raise_unless_finite(x, f"Sampling at timestep {int(t)}")
            yield SamplingStep(int(t), (x / (1 + sigmas[index + 1] ** 2) ** 0.5).float())

    def _start(
        self, scheduler: Any, schedule: NoiseSchedule, config: SamplingConfig, device: torch.device
    ) -> tuple[Tensor, int]:
        """Its timesteps from the share of the schedule that is run, and how many are skipped."""
        steps = config.num_inference_steps
        scheduler.set_timesteps(steps, device=device)
        if float(scheduler.timesteps[0]) < float(scheduler.timesteps[-1]):
            raise ValueError(f"{type(scheduler).__name__} goes from clip to noise: invert with invert().")
        ours = schedule.timesteps(steps, config.denoise)
        order, found = getattr(scheduler, "order", 1), len(scheduler.timesteps)
        skipped = (steps - len(ours)) * order
        if skipped and found > steps * order:  # PNDM
            raise ValueError(f"{type(scheduler).__name__} begins with steps of its own: set denoise to 1.")
        if skipped and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(skipped)
        first = float(scheduler.timesteps[skipped])
        if skipped and abs(first - ours[0]) > FEW_STRIDES * schedule.num_train_timesteps / steps:
            raise ValueError(
                f"This scheduler would start at timestep {first:.0f}, the latents lie at {ours[0]}: choose another "
                "timestep_spacing, or set denoise to 1."
            )
        return scheduler.timesteps[skipped:], skipped

    def _options(self, scheduler: Any, config: SamplingConfig) -> dict[str, Any]:
        taken = inspect.signature(scheduler.step).parameters
        options = {"eta": config.eta, "generator": torch.Generator().manual_seed(config.seed)}
        return {name: value for name, value in options.items() if name in taken}

    def _raise_unless_of(self, schedule: NoiseSchedule) -> None:
        remedy = (
            "Make it from the model's own, such as DPMSolverMultistepScheduler.from_config(model.scheduler.config)."
        )
        name, levels = type(self.scheduler).__name__, getattr(self.scheduler, "alphas_cumprod", None)
        if self.scheduler.config.get("prediction_type", "epsilon") != schedule.prediction_type:
            raise ValueError(f"The model predicts {schedule.prediction_type}, this {name} another quantity. {remedy}")
        ours = schedule.alphas_cumprod
        options = inspect.signature(type(self.scheduler).__init__).parameters
        if schedule.has_zero_snr and "rescale_betas_zero_snr" not in options:
            raise ValueError(
                f"The noisiest level of the model holds no signal (zero terminal SNR), which {name} cannot do: take "
                "one with rescale_betas_zero_snr, such as DPMSolverMultistepScheduler, UniPCMultistepScheduler or "
                "EulerDiscreteScheduler."
            )
        if levels is None or len(levels) != len(ours) or (levels.double().cpu() - ours).abs().max() > SAME_LEVELS:
            raise ValueError(f"This {name} has other noise levels than the model. {remedy}")
