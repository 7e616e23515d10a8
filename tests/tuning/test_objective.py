"""Objectives: the published loss against the same written out, and a loss that a caller defines."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tav_core import (
    NoisePrediction,
    NoiseSchedule,
    TuningConfig,
    VideoUNet,
    clean_and_noise,
    inflate,
    trainable_parameters,
    tune,
)
from tav_core.diffusion.denoiser import Denoiser, unet_denoiser
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, MakeUNet, draw

CLIPS, NOISE, TEXT = draw(2, 4, 3, 6, 6), draw(2, 4, 3, 6, 6, seed=1), draw(2, 5, 12, seed=2)
TIMESTEPS = torch.tensor([150, 620])


@dataclass(frozen=True)
class Echo:
    """A denoiser that predicts its input."""

    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        return x_t


def noised(schedule: NoiseSchedule, index: int) -> Tensor:
    alpha = schedule.alpha(int(TIMESTEPS[index]))
    return alpha**0.5 * CLIPS[index] + (1 - alpha) ** 0.5 * NOISE[index]


def test_noise_prediction_is_the_mean_squared_error_of_the_noise() -> None:
    schedule = NoiseSchedule.from_scheduler(EPSILON)
    errors = [(noised(schedule, index) - NOISE[index]).square().mean() for index in (0, 1)]
    loss = NoisePrediction()(Echo(schedule), CLIPS, NOISE, TIMESTEPS)
    torch.testing.assert_close(loss, (errors[0] + errors[1]) / 2)


def test_noise_prediction_of_a_velocity_model_is_that_of_the_velocity() -> None:
    schedule, errors = NoiseSchedule.from_scheduler(VELOCITY_ZERO_SNR), []
    for index in (0, 1):
        alpha = schedule.alpha(int(TIMESTEPS[index]))
        velocity = alpha**0.5 * NOISE[index] - (1 - alpha) ** 0.5 * CLIPS[index]
        errors.append((noised(schedule, index) - velocity).square().mean())
    loss = NoisePrediction()(Echo(schedule), CLIPS, NOISE, TIMESTEPS)
    torch.testing.assert_close(loss, (errors[0] + errors[1]) / 2)


def test_min_snr_gamma_weights_each_clip() -> None:
    schedule, weighted = NoiseSchedule.from_scheduler(EPSILON), []
    for index in (0, 1):
        alpha = schedule.alpha(int(TIMESTEPS[index]))
        snr = alpha / (1 - alpha)
        weighted.append(min(snr, 5.0) / snr * (noised(schedule, index) - NOISE[index]).square().mean())
    loss = NoisePrediction(min_snr_gamma=5.0)(Echo(schedule), CLIPS, NOISE, TIMESTEPS)
    torch.testing.assert_close(loss, (weighted[0] + weighted[1]) / 2)
    assert TuningConfig(min_snr_gamma=5.0).objective == NoisePrediction(5.0) != TuningConfig().objective


def written_out(denoiser: Denoiser, sample: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The published loss, as a caller would write it."""
    alphas = torch.tensor([denoiser.schedule.alpha(int(timestep)) for timestep in t])[:, None, None, None, None]
    prediction = denoiser((alphas.sqrt() * sample + (1 - alphas).sqrt() * noise).float(), t)
    return torch.nn.functional.mse_loss(prediction, noise)


def test_a_custom_objective_equals_the_published_loss_and_its_gradient(make_unet: MakeUNet) -> None:
    values, gradients = [], []
    for objective in (NoisePrediction(), written_out):
        video_unet = inflate(make_unet())
        loss = objective(unet_denoiser(video_unet, EPSILON, TEXT), CLIPS, NOISE, TIMESTEPS)
        loss.backward()
        values.append(loss.detach())
        gradients.append(torch.cat([weight.grad.flatten() for weight in trainable_parameters(video_unet).values()]))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def weights(video_unet: VideoUNet) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in trainable_parameters(video_unet).values()])


def test_tune_minimises_the_configs_objective(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"noise": [NOISE], "timesteps": [TIMESTEPS]}
    losses, tuned = [], []
    for objective in (NoisePrediction(), written_out, lambda *call: 0.5 * written_out(*call)):
        monkeypatch.setattr(TuningConfig, "objective", property(lambda config, chosen=objective: chosen))
        video_unet = inflate(make_unet())
        (step,) = tune(video_unet, CLIPS, TEXT, EPSILON, TuningConfig(steps=1, max_grad_norm=1e9), **given)
        losses.append(step.loss)
        tuned.append(weights(video_unet))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[2] == pytest.approx(losses[0] / 2, rel=1e-5)
    assert (tuned[0] - tuned[1]).abs().mean() < 1e-6 < (tuned[0] - weights(inflate(make_unet()))).abs().mean()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda loss: loss.repeat(2), r"not one of shape \(2,\)"),
        (lambda loss: loss.detach(), r"not one of shape \(\), without a gradient"),
        (lambda loss: float(loss.detach()), "one number with a gradient, not "),
        (lambda loss: None, "one number with a gradient, not None"),
    ],
)
def test_what_is_no_loss_is_refused(make_unet: MakeUNet, returned, message: str) -> None:  # type: ignore[no-untyped-def]
    def objective(denoiser, sample, noise, t):  # type: ignore[no-untyped-def]
        return returned(denoiser(sample, t).mean())

    with pytest.raises(TypeError, match=message):
        next(tune(inflate(make_unet()), CLIPS[:1], TEXT[:1], EPSILON, TuningConfig(steps=1), objective=objective))


@pytest.mark.parametrize(
    ("config", "own", "message"),
    [
        (TuningConfig(steps=1), {"objective": "mse"}, "objective must be a function"),
        (TuningConfig(steps=1, min_snr_gamma=5.0), {"objective": NoisePrediction()}, "an objective takes its place"),
        (TuningConfig(steps=1, timestep_range=0.5), {"timesteps": [3]}, "timesteps are given"),
    ],
)
def test_a_setting_that_an_argument_replaces_is_refused(make_unet: MakeUNet, config, own, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((TypeError, ValueError), match=message):
        next(tune(inflate(make_unet()), CLIPS[:1], TEXT[:1], EPSILON, config, **own))


@pytest.mark.parametrize("call", [lambda x: clean_and_noise(x, x, 0.5, "x0"), lambda x: NoiseSchedule(x, "eps")])
def test_an_unknown_prediction_type_is_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="prediction_type must be one of 'epsilon', 'v_prediction'"):
        call(CLIPS)
