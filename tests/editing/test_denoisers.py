"""Denoisers: the UNet under a prompt, guidance, and DDIM in both directions over any denoiser."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tav_core import CFG, Conditioning, InversionConfig, NoiseSchedule, SamplingConfig, UNetDenoiser, VideoUNet, inflate
from tav_core.diffusion.schedule import HIGH_NOISE
from tav_core.editing.inversion import ddim_invert
from tav_core.editing.sampling import ddim_sample
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, MakeUNet, draw, relative_error

X_T, POSITIVE, NEGATIVE = draw(2, 4, 3, 6, 6), draw(2, 5, 12, seed=1), draw(2, 5, 12, seed=2)
SCHEDULE = NoiseSchedule.from_scheduler(EPSILON)


@dataclass(frozen=True)
class Function:
    """A denoiser that is a function of x_t and t."""

    function: Callable[[Tensor, int], Tensor]
    schedule: NoiseSchedule = SCHEDULE

    def __call__(self, x_t: Tensor, t: int) -> Tensor:
        return self.function(x_t, t)


@pytest.fixture
def video_unet(make_unet: MakeUNet) -> VideoUNet:
    return inflate(make_unet())


def under(video_unet: VideoUNet, text: Tensor) -> UNetDenoiser:
    return UNetDenoiser(video_unet, SCHEDULE, Conditioning(text))


@torch.no_grad()
def test_unet_denoiser_is_the_model_under_its_conditioning(video_unet: VideoUNet) -> None:
    assert torch.equal(under(video_unet, POSITIVE)(X_T, 300), video_unet(X_T, 300, POSITIVE))
    timesteps = torch.tensor([300, 700])
    both = under(video_unet, POSITIVE)(X_T, timesteps)
    for index, timestep in enumerate((300, 700)):
        alone = slice(index, index + 1)
        assert relative_error(both[alone], video_unet(X_T[alone], timestep, POSITIVE[alone])) < 1e-5


@torch.no_grad()
def test_two_unet_denoisers_share_a_batch_only_if_they_fit(video_unet: VideoUNet, make_unet: MakeUNet) -> None:
    positive, negative = under(video_unet, POSITIVE), under(video_unet, NEGATIVE)
    both = positive.beside(negative)
    assert both is not None
    first, second = both(X_T.repeat(2, 1, 1, 1, 1), 300).chunk(2)
    assert relative_error(first, positive(X_T, 300)) < 1e-5 and relative_error(second, negative(X_T, 300)) < 1e-5
    assert positive.beside(under(video_unet, NEGATIVE[:, :4])) is None
    assert positive.beside(under(inflate(make_unet()), NEGATIVE)) is None
    assert positive.beside(UNetDenoiser(video_unet, SCHEDULE, Conditioning(NEGATIVE), torch.bfloat16)) is None
    assert positive.beside(Function(lambda x_t, t: x_t)) is None


@torch.no_grad()
@pytest.mark.parametrize("negative", [NEGATIVE, NEGATIVE[:, :4]], ids=["one batch", "two passes"])
def test_guidance_is_the_line_through_both_predictions(video_unet: VideoUNet, negative: Tensor) -> None:
    guided = CFG(under(video_unet, POSITIVE), under(video_unet, negative), 7.5)(X_T, 500)
    conditional, unconditional = (video_unet(X_T, 500, text) for text in (POSITIVE, negative))
    assert relative_error(guided, unconditional + 7.5 * (conditional - unconditional)) < 1e-5


def test_guidance_over_any_denoisers() -> None:
    positive, negative = Function(lambda x_t, t: 2 * x_t), Function(lambda x_t, t: x_t + t)
    expected = X_T + 500 + 3.0 * (2 * X_T - X_T - 500)
    torch.testing.assert_close(CFG(positive, negative, 3.0)(X_T, 500), expected)
    spread = [prediction.std((1, 2, 3, 4), keepdim=True) for prediction in (2 * X_T, expected)]
    rescaled = CFG(positive, negative, 3.0, rescale=0.7)(X_T, 500)
    torch.testing.assert_close(rescaled, 0.7 * expected * spread[0] / spread[1] + 0.3 * expected)


def test_scale_1_does_not_call_the_negative_denoiser() -> None:
    negative = Function(lambda x_t, t: pytest.fail("called"))
    assert torch.equal(CFG(Function(lambda x_t, t: 2 * x_t), negative, 1.0)(X_T, 500), 2 * X_T)


def test_high_noise_scale_is_used_at_high_noise_only() -> None:
    positive, negative = Function(lambda x_t, t: torch.ones_like(x_t)), Function(lambda x_t, t: torch.zeros_like(x_t))
    guided, border = CFG(positive, negative, 2.0, high_noise_scale=9.0), int(HIGH_NOISE * 1000)
    assert [float(guided(X_T, t).mean()) for t in (1, border - 1, border, 999)] == [2, 2, 9, 9]


def gaussian(schedule: NoiseSchedule, clip: Tensor) -> Function:
    """The exact prediction for data that are one clip alone: the noise between it and x_t."""

    def predicted(x_t: Tensor, t: int) -> Tensor:
        alpha = schedule.alpha(t)
        noise = (x_t - alpha**0.5 * clip) / (1 - alpha) ** 0.5
        return noise if schedule.prediction_type == "epsilon" else alpha**0.5 * noise - (1 - alpha) ** 0.5 * clip

    return Function(predicted, schedule)


@pytest.mark.parametrize("scheduler", [EPSILON, VELOCITY_ZERO_SNR], ids=["epsilon", "velocity"])
def test_sampling_follows_the_exact_solution_of_any_denoiser(scheduler: dict[str, object]) -> None:
    """For data that are one clip, x_t = sqrt(a_t) clip + sqrt(1 - a_t) noise with the same noise at all t."""
    schedule, clip, noise = NoiseSchedule.from_scheduler(scheduler), draw(*X_T.shape, seed=3), draw(*X_T.shape, seed=4)
    config = SamplingConfig(num_inference_steps=10)
    taken = schedule.steps(10)
    start = schedule.add_noise(clip, noise, taken[0][0])
    steps = list(ddim_sample(gaussian(schedule, clip), start, config))
    assert [step.timestep for step in steps] == [t for t, _ in taken]
    for step, (_, s) in zip(steps, taken, strict=True):
        alpha = schedule.alpha(s)
        torch.testing.assert_close(step.latents, alpha**0.5 * clip + (1 - alpha) ** 0.5 * noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("refinements", [0, 3])
def test_inversion_follows_the_exact_solution_of_any_denoiser(refinements: int) -> None:
    """A constant prediction is the same at both ends of a step, so that inversion is exact without refinement too."""
    clip, noise = draw(*X_T.shape, seed=3), draw(*X_T.shape, seed=4)
    denoiser = Function(lambda x_t, t: noise)
    first = SCHEDULE.alpha(SCHEDULE.steps(10)[-1][1])
    start = first**0.5 * clip + (1 - first) ** 0.5 * noise
    steps = list(ddim_invert(denoiser, start, InversionConfig(10, refinements)))
    for step in steps:
        alpha = SCHEDULE.alpha(step.timestep)
        torch.testing.assert_close(step.latents, alpha**0.5 * clip + (1 - alpha) ** 0.5 * noise, rtol=1e-4, atol=1e-4)
    *_, last = ddim_sample(denoiser, steps[-1].latents, SamplingConfig(10))
    torch.testing.assert_close(last.latents, start, rtol=1e-3, atol=1e-3)


def test_non_finite_predictions_of_any_denoiser_raise() -> None:
    broken = Function(lambda x_t, t: x_t * float("nan"))
    with pytest.raises(FloatingPointError, match="Sampling at timestep 901"):
        next(ddim_sample(broken, X_T, SamplingConfig(10)))
    with pytest.raises(FloatingPointError, match="Inversion to timestep 1"):
        next(ddim_invert(broken, X_T, InversionConfig(10)))
