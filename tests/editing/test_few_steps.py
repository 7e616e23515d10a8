"""Few steps: the timesteps and steps of diffusers' LCM scheduler, and the exact inversion on the same few timesteps."""

import pytest
import torch
from diffusers import LCMScheduler

from tav_core import InversionConfig, NoiseSchedule, SamplingConfig, ddim_invert, ddim_sample, lcm_sample
from tests.conftest import EPSILON, draw
from tests.editing.test_samplers import VELOCITY, Curved

X = draw(1, 4, 2, 8, 8)
LCM = {"timestep_spacing": "lcm"}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 8, 50])
def test_timesteps_are_those_of_diffusers(steps: int) -> None:
    scheduler = LCMScheduler(**EPSILON)
    scheduler.set_timesteps(steps)
    assert NoiseSchedule.from_scheduler(EPSILON | LCM).timesteps(steps) == scheduler.timesteps.tolist()


def test_more_steps_than_were_distilled_are_refused() -> None:
    with pytest.raises(ValueError, match="num_inference_steps with lcm spacing must be a whole number from 1 to 50"):
        NoiseSchedule.from_scheduler(EPSILON | LCM).timesteps(51)


@pytest.mark.parametrize("config", [EPSILON, VELOCITY], ids=["epsilon", "v"])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_steps_are_those_of_diffusers(config: dict, steps: int) -> None:
    denoiser = Curved(NoiseSchedule.from_scheduler(config | LCM))
    scheduler = LCMScheduler(**config)
    scheduler.set_timesteps(steps)
    x, generator = X, torch.Generator().manual_seed(5)
    for t, ours in zip(scheduler.timesteps, lcm_sample(denoiser, X, SamplingConfig(steps, seed=5)), strict=True):
        made = scheduler.step(denoiser(x, int(t)), t, x, generator=generator)
        x = made.prev_sample
        assert ours.timestep == int(t) and ours.clean is not None
        torch.testing.assert_close(ours.latents, x, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.clean, made.denoised, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [4, 8])
@pytest.mark.parametrize("spacing", ["lcm", "trailing"])
def test_the_exact_inversion_holds_on_the_same_few_timesteps(steps: int, spacing: str) -> None:
    denoiser, errors = Curved(NoiseSchedule.from_scheduler(EPSILON | {"timestep_spacing": spacing})), []
    for refinements in (0, 30):
        *_, noise = ddim_invert(denoiser, X, InversionConfig(steps, refinements=refinements, tolerance=1e-6))
        assert noise.timestep == 999
        *_, back = ddim_sample(denoiser, noise.latents, SamplingConfig(steps))
        errors.append(float((back.latents - X).norm() / X.norm()))
    assert errors[1] < 1e-3 < errors[0]
