"""Noise levels and DDIM steps against the schedulers of diffusers."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tav_core import NoiseSchedule, plain_noise
from tav_core.diffusion.ddim import clean_and_noise, ddim_inverse_step, ddim_step, undo_ddim_step
from tav_core.diffusion.schedule import HIGH_NOISE
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, draw

SCHEDULERS = [EPSILON, EPSILON | {"prediction_type": "v_prediction"}, VELOCITY_ZERO_SNR]
IN_DIFFUSERS = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}


@pytest.mark.parametrize("num_inference_steps", [1, 3, 10, 50, 999])
def test_timesteps_equal_diffusers(num_inference_steps: int) -> None:
    reference = DDIMScheduler(**EPSILON, **IN_DIFFUSERS)
    reference.set_timesteps(num_inference_steps)
    assert NoiseSchedule.from_scheduler(EPSILON).timesteps(num_inference_steps) == reference.timesteps.tolist()


def test_as_many_steps_as_in_training_stay_in_range() -> None:
    timesteps = NoiseSchedule.from_scheduler(EPSILON).timesteps(1000)
    assert (timesteps[0], timesteps[-1]) == (999, 0)


@pytest.mark.parametrize("num_inference_steps", [0, -1, 1001])
def test_invalid_numbers_of_steps_raise(num_inference_steps: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 1000"):
        NoiseSchedule.from_scheduler(EPSILON).timesteps(num_inference_steps)


@pytest.mark.parametrize(("denoise", "kept"), [(1.0, 10), (0.6, 6), (0.58, 6), (0.01, 1)])
def test_denoise_keeps_the_steps_with_the_least_noise(denoise: float, kept: int) -> None:
    schedule = NoiseSchedule.from_scheduler(EPSILON)
    assert schedule.timesteps(10, denoise) == schedule.timesteps(10)[-kept:]
    with pytest.raises(ValueError, match="denoise must be a number in"):
        schedule.timesteps(10, 0.0)


def test_is_high_noise_begins_at_its_first_timestep() -> None:
    schedule = NoiseSchedule.from_scheduler(EPSILON)
    border = int(HIGH_NOISE * 1000)
    assert [schedule.is_high_noise(timestep) for timestep in (border - 1, border, 999)] == [False, True, True]


@pytest.mark.parametrize("config", SCHEDULERS)
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_step_equals_diffusers(config: dict[str, object], eta: float) -> None:
    reference, schedule = DDIMScheduler(**config, **IN_DIFFUSERS), NoiseSchedule.from_scheduler(config)
    reference.set_timesteps(10)
    latents, output, noise = draw(1, 4, 3, 5, 5), draw(1, 4, 3, 5, 5, seed=1), draw(1, 4, 3, 5, 5, seed=2)
    for timestep in schedule.timesteps(10):
        alpha, alpha_prev = schedule.alpha(timestep), schedule.alpha(timestep - 100)
        fresh = noise if eta else None
        got = ddim_step(latents, output, alpha, alpha_prev, schedule.prediction_type, eta, fresh)
        expected = reference.step(output, timestep, latents, eta=eta, variance_noise=fresh).prev_sample
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", SCHEDULERS)
def test_undo_ddim_step_inverts_ddim_step(config: dict[str, object]) -> None:
    schedule = NoiseSchedule.from_scheduler(config)
    latents, output = draw(1, 4, 3, 5, 5), draw(1, 4, 3, 5, 5, seed=1)
    for timestep in schedule.timesteps(10):
        levels = schedule.alpha(timestep), schedule.alpha(timestep - 100)
        stepped = ddim_step(latents, output, *levels, schedule.prediction_type)
        torch.testing.assert_close(undo_ddim_step(stepped, output, *levels, schedule.prediction_type), latents)


@pytest.mark.parametrize("config", SCHEDULERS)
def test_ddim_inverse_step_equals_diffusers(config: dict[str, object]) -> None:
    reference = DDIMInverseScheduler(**config, **IN_DIFFUSERS)
    schedule = NoiseSchedule.from_scheduler(config)
    reference.set_timesteps(10)
    latents, output = draw(1, 4, 3, 5, 5), draw(1, 4, 3, 5, 5, seed=1)
    assert reference.timesteps.tolist() == schedule.timesteps(10)[::-1]
    for timestep in reversed(schedule.timesteps(10)):
        alpha, alpha_next = schedule.alpha(timestep - 100), schedule.alpha(timestep)
        got = ddim_inverse_step(latents, output, alpha, alpha_next, schedule.prediction_type)
        expected = reference.step(output, timestep, latents).prev_sample
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_inference_steps", [999, 1000])
def test_ddpm_steps_from_pure_noise_are_finite(num_inference_steps: int) -> None:
    """Where alpha is 0 the variance that is left rounds to just below zero with these betas."""
    schedule = NoiseSchedule.from_scheduler(VELOCITY_ZERO_SNR | {"beta_schedule": "linear"})
    timesteps = schedule.timesteps(num_inference_steps)
    alphas = schedule.alpha(timesteps[0]), schedule.alpha(timesteps[1])
    assert alphas[0] == 0 and 1 - alphas[1] - (1 - alphas[1]) ** 0.5**2 < 1e-9
    noise = draw(1, 4, 1, 2, 2)
    stepped = ddim_step(noise, noise, *alphas, "v_prediction", eta=1.0, noise=noise)
    assert stepped.dtype == torch.float32 and stepped.isfinite().all()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_step_from_a_level_without_noise(eta: float) -> None:
    latents = draw(1, 4, 1, 2, 2)
    stepped = ddim_step(latents, draw(1, 4, 1, 2, 2, seed=1), 1.0, 1.0, "epsilon", eta, latents)
    torch.testing.assert_close(stepped, latents)


@pytest.mark.parametrize("config", SCHEDULERS)
def test_ddim_step_undoes_ddim_inverse_step(config: dict[str, object]) -> None:
    """With the same clean latents and noise told by the model, the two directions are each other's inverse."""
    schedule = NoiseSchedule.from_scheduler(config)
    clean, noise = draw(1, 4, 2, 3, 3).double(), draw(1, 4, 2, 3, 3, seed=1).double()
    for low, high in ((1, 101), (501, 601), (801, 998)):
        at = {t: schedule.add_noise(clean, noise, t) for t in (low, high)}
        output = {t: schedule.training_target(clean, noise, t) for t in (low, high)}
        alphas = schedule.alpha(low), schedule.alpha(high)
        up = ddim_inverse_step(at[low], output[low], *alphas, schedule.prediction_type)
        down = ddim_step(at[high], output[high], *reversed(alphas), schedule.prediction_type)
        torch.testing.assert_close(up, at[high])
        torch.testing.assert_close(down, at[low])


def test_zero_terminal_signal_with_v_prediction_is_finite_everywhere() -> None:
    schedule = NoiseSchedule.from_scheduler(VELOCITY_ZERO_SNR)
    assert schedule.alpha(999) == 0
    latents, output = draw(1, 4, 2, 3, 3), draw(1, 4, 2, 3, 3, seed=1)
    steps = [
        ddim_step(latents, output, 0.0, schedule.alpha(899), "v_prediction", eta=1.0, noise=latents),
        ddim_inverse_step(latents, output, schedule.alpha(899), 0.0, "v_prediction"),
        schedule.add_noise(latents, output, 999),
        schedule.min_snr_weight(torch.tensor([999, 0]), gamma=5.0),
    ]
    assert all(torch.isfinite(step).all() for step in steps)
    torch.testing.assert_close(ddim_step(latents, output, 0.0, 1.0, "v_prediction"), -output)


def test_epsilon_prediction_raises_at_zero_signal_only() -> None:
    schedule = NoiseSchedule.from_scheduler(EPSILON | {"rescale_betas_zero_snr": True})
    latents = draw(1, 4, 2, 3, 3)
    ddim_step(latents, latents, schedule.alpha(998), schedule.alpha(898), "epsilon")
    with pytest.raises(ValueError, match="no signal is left"):
        ddim_step(latents, latents, schedule.alpha(999), schedule.alpha(899), "epsilon")
    assert torch.isfinite(schedule.min_snr_weight(torch.tensor([999]), gamma=5.0)).all()


@settings(deadline=None)
@given(alpha=st.floats(0, 1), seed=st.integers(0, 99))
def test_velocity_gives_clean_latents_and_noise_at_any_level(alpha: float, seed: int) -> None:
    clean, noise = draw(5, seed=seed).double(), draw(5, seed=seed + 100).double()
    signal, sigma = alpha**0.5, (1 - alpha) ** 0.5
    got = clean_and_noise(signal * clean + sigma * noise, signal * noise - sigma * clean, alpha, "v_prediction")
    torch.testing.assert_close(got, (clean, noise), rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", SCHEDULERS)
def test_noisy_latents_and_targets_equal_diffusers(config: dict[str, object]) -> None:
    reference, schedule = DDPMScheduler(**config), NoiseSchedule.from_scheduler(config)
    clean, noise, timestep = draw(2, 4, 3, 5, 5), draw(2, 4, 3, 5, 5, seed=1), torch.tensor([3, 900])
    torch.testing.assert_close(
        schedule.add_noise(clean, noise, timestep), reference.add_noise(clean, noise, timestep), rtol=1e-5, atol=1e-5
    )
    velocity = config["prediction_type"] == "v_prediction"
    expected = reference.get_velocity(clean, noise, timestep) if velocity else noise
    torch.testing.assert_close(schedule.training_target(clean, noise, timestep), expected, rtol=1e-5, atol=1e-5)


def test_min_snr_weights() -> None:
    timestep = torch.tensor([1, 500, 990])
    for prediction_type, over in (("epsilon", 0), ("v_prediction", 1)):
        schedule = NoiseSchedule.from_scheduler(EPSILON | {"prediction_type": prediction_type})
        alpha = schedule.alphas_cumprod[timestep].numpy()
        snr = alpha / (1 - alpha)
        expected = np.minimum(snr, 5.0) / (snr + over)
        np.testing.assert_allclose(schedule.min_snr_weight(timestep, 5.0), expected, rtol=1e-5)


def test_scheduler_config_and_schedule_give_the_same_schedule() -> None:
    scheduler = PNDMScheduler(**EPSILON, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    schedule = NoiseSchedule.from_scheduler(scheduler)
    for given_scheduler in (scheduler.config, dict(scheduler.config), EPSILON):
        assert torch.equal(NoiseSchedule.from_scheduler(given_scheduler).alphas_cumprod, schedule.alphas_cumprod)
    assert NoiseSchedule.from_scheduler(schedule) is schedule
    torch.testing.assert_close(schedule.alphas_cumprod.float(), scheduler.alphas_cumprod)
    trained = {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3}
    assert NoiseSchedule.from_scheduler(trained).alpha(2) == pytest.approx(0.9 * 0.8 * 0.7)


def test_unsupported_schedulers_raise() -> None:
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no betas"):
        NoiseSchedule.from_scheduler(FlowMatchEulerDiscreteScheduler())
    with pytest.raises(ValueError, match="prediction_type is one of"):
        NoiseSchedule.from_scheduler(EPSILON | {"prediction_type": "sample"})
    with pytest.raises(TypeError, match="got str"):
        NoiseSchedule.from_scheduler("ddim")


def test_plain_noise_depends_on_its_seed_alone() -> None:
    before = torch.get_rng_state()
    assert torch.equal(plain_noise((1, 4, 3, 5, 5), seed=7), plain_noise((1, 4, 3, 5, 5), seed=7))
    assert not torch.equal(plain_noise((1, 4, 3, 5, 5), seed=7), plain_noise((1, 4, 3, 5, 5), seed=8))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("config, zero", [(EPSILON, False), (EPSILON | {"rescale_betas_zero_snr": True}, True)])
def test_zero_terminal_snr_is_recognised(config, zero):
    assert NoiseSchedule.from_scheduler(config).has_zero_snr is zero
