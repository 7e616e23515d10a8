"""Sampling against diffusers' DDIM scheduler, guidance, and where sampling may start."""

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from tav_core import NoiseSchedule, SamplingConfig, VideoUNet, inflate, plain_noise, sample
from tav_core.diffusion import guidance
from tav_core.editing.sampling import guided_denoiser
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, MakeUNet, draw, relative_error

NOISE, POSITIVE, NEGATIVE = draw(1, 4, 3, 6, 6), draw(1, 5, 12, seed=1), draw(1, 9, 12, seed=2)


def last(video_unet: VideoUNet, noise: Tensor = NOISE, scheduler: object = EPSILON, **options: object) -> Tensor:
    *_, step = sample(
        video_unet, noise, POSITIVE, NEGATIVE, scheduler, SamplingConfig(**({"num_inference_steps": 4} | options))
    )
    return step.latents


@pytest.mark.parametrize("scheduler", [EPSILON, VELOCITY_ZERO_SNR])
def test_guided_sampling_equals_diffusers_with_prompts_of_unequal_length(
    make_unet: MakeUNet, scheduler: dict[str, object]
) -> None:
    video_unet, latents = inflate(make_unet()), NOISE
    reference = DDIMScheduler(**scheduler, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    reference.set_timesteps(10)
    config = SamplingConfig(num_inference_steps=10, guidance_scale=7.5)
    steps = list(sample(video_unet, NOISE, POSITIVE, NEGATIVE, scheduler, config))
    for step, timestep in zip(steps, reference.timesteps, strict=True):
        with torch.no_grad():
            uncond, cond = (video_unet(latents, timestep, text) for text in (NEGATIVE, POSITIVE))
        latents = reference.step(uncond + 7.5 * (cond - uncond), timestep, latents).prev_sample
        assert step.timestep == timestep
        assert relative_error(step.latents, latents) < 1e-3


@pytest.mark.parametrize(("scale", "passes"), [(1.0, 4), (7.5, 8), (0.0, 8)])
def test_no_guidance_skips_the_negative_pass(make_unet: MakeUNet, scale: float, passes: int) -> None:
    video_unet, calls = inflate(make_unet()), []
    video_unet.register_forward_hook(lambda *_: calls.append(1))
    last(video_unet, guidance_scale=scale)
    assert len(calls) == passes


def test_high_noise_guidance_acts_at_high_noise_only(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    early, late = {"denoise": 1.0}, {"denoise": 0.4}  # of ten steps, four lie below NoiseSchedule.is_high_noise
    for part, acts in ((early, True), (late, False)):
        plain, guided = (
            last(video_unet, num_inference_steps=10, guidance_scale=2.0, high_noise_guidance_scale=scale, **part)
            for scale in (None, 9.0)
        )
        assert torch.equal(plain, guided) != acts


@pytest.mark.parametrize(("pixels", "passes"), [(3 * 6 * 6, 1), (3 * 6 * 6 - 1, 2)])
def test_small_clips_take_both_prompts_in_one_batch(
    make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch, pixels: int, passes: int
) -> None:
    monkeypatch.setattr(guidance, "ONE_BATCH_PIXELS", pixels)
    video_unet, calls, negative = inflate(make_unet()), [], draw(*POSITIVE.shape, seed=3)
    video_unet.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        got = guided_denoiser(video_unet, POSITIVE, negative, EPSILON, SamplingConfig(guidance_scale=7.5))(NOISE, 500)
        assert len(calls) == passes
        unconditional, conditional = (video_unet(NOISE, 500, text) for text in (negative, POSITIVE))
    assert relative_error(got, unconditional + 7.5 * (conditional - unconditional)) < 1e-5


def test_negative_prompt_may_be_left_out_without_guidance_only(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    *_, step = sample(video_unet, NOISE, POSITIVE, None, EPSILON, SamplingConfig(4, guidance_scale=1.0))
    assert torch.equal(step.latents, last(video_unet, guidance_scale=1.0))
    with pytest.raises(ValueError, match="needs a negative embedding"):
        next(sample(video_unet, NOISE, POSITIVE, None, EPSILON))


def test_fresh_noise_depends_on_the_seed(make_unet: MakeUNet) -> None:
    video_unet, before = inflate(make_unet()), torch.get_rng_state()
    assert torch.equal(last(video_unet, seed=1), last(video_unet, seed=2))
    assert torch.equal(last(video_unet, seed=1, eta=0.5), last(video_unet, seed=1, eta=0.5))
    assert not torch.equal(last(video_unet, seed=1, eta=0.5), last(video_unet, seed=2, eta=0.5))
    assert torch.equal(torch.get_rng_state(), before)


def test_full_rescale_gives_the_guided_prediction_the_contrast_of_the_positive_one(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    noise = draw(2, 4, 3, 6, 6)
    texts = POSITIVE.expand(2, -1, -1), NEGATIVE.expand(2, -1, -1)
    with torch.no_grad():
        positive = video_unet(noise, 500, texts[0])
        plain, half, full = (
            guided_denoiser(video_unet, *texts, EPSILON, SamplingConfig(guidance_rescale=rescale))(noise, 500)
            for rescale in (0.0, 0.5, 1.0)
        )
    torch.testing.assert_close(full.flatten(1).std(1), positive.flatten(1).std(1))
    torch.testing.assert_close(half, (plain + full) / 2)


@pytest.mark.parametrize("scheduler", [EPSILON, VELOCITY_ZERO_SNR])
def test_starts_partway_from_a_noised_clip_and_from_plain_noise(
    make_unet: MakeUNet, scheduler: dict[str, object]
) -> None:
    video_unet, schedule = inflate(make_unet()), NoiseSchedule.from_scheduler(scheduler)
    clip, noise = draw(1, 4, 3, 6, 6, seed=3), plain_noise((1, 4, 3, 6, 6), seed=4)
    start = schedule.timesteps(10, denoise=0.3)[0]
    config = SamplingConfig(num_inference_steps=10, denoise=0.3)
    steps = list(sample(video_unet, schedule.add_noise(clip, noise, start), POSITIVE, NEGATIVE, scheduler, config))
    assert [step.timestep for step in steps] == [201, 101, 1]
    assert torch.isfinite(last(video_unet, noise, scheduler)).all()


@pytest.mark.parametrize("num_inference_steps", [1, 1000])
def test_zero_terminal_signal_is_sampled_from_the_first_timestep(make_unet: MakeUNet, num_inference_steps: int) -> None:
    scheduler = VELOCITY_ZERO_SNR | {"num_train_timesteps": 4}
    config = SamplingConfig(num_inference_steps=min(num_inference_steps, 4), guidance_scale=3.0, eta=1.0)
    steps = list(sample(inflate(make_unet()), NOISE, POSITIVE, NEGATIVE, scheduler, config))
    assert all(torch.isfinite(step.latents).all() for step in steps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_latents_are_returned_as_float32_and_no_mode_leaks(make_unet: MakeUNet, dtype: torch.dtype) -> None:
    config = SamplingConfig(num_inference_steps=2)
    for step in sample(inflate(make_unet()), NOISE.to(dtype), POSITIVE.to(dtype), NEGATIVE, EPSILON, config):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert step.latents.dtype == torch.float32 and not step.latents.requires_grad


@pytest.mark.parametrize(
    "option",
    [
        {"num_inference_steps": 0},
        {"guidance_scale": -1.0},
        {"guidance_scale": float("inf")},
        {"eta": 1.5},
        {"guidance_rescale": -0.1},
        {"denoise": 0.0},
        {"denoise": 1.1},
    ],
)
def test_invalid_options_raise(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        SamplingConfig(**option)


@pytest.mark.parametrize(
    ("noise", "positive", "negative", "message"),
    [
        (NOISE[:, :, 0], POSITIVE, NEGATIVE, "5 dimensions"),
        (NOISE[:, :, :0], POSITIVE, NEGATIVE, "at least one frame"),
        (NOISE, POSITIVE[..., :8], NEGATIVE, "width 12, got 8"),
        (NOISE, POSITIVE, NEGATIVE[..., :8], "width 12, got 8"),
        (NOISE, POSITIVE.expand(3, -1, -1), NEGATIVE, "one prompt for each clip"),
    ],
)
def test_wrong_inputs_raise(
    make_unet: MakeUNet, noise: Tensor, positive: Tensor, negative: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        next(sample(inflate(make_unet()), noise, positive, negative, EPSILON))
