"""Inversion against diffusers' inverse scheduler, and its reconstruction by sampling."""

import pytest
import torch
from diffusers import DDIMInverseScheduler
from torch import Tensor

from tav_core import InversionConfig, SamplingConfig, inflate, invert, sample
from tav_core.editing.reconstruction import reconstruction_snr
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, MakeUNet, draw, relative_error

SCHEDULERS = [EPSILON, VELOCITY_ZERO_SNR]
ONE_IS_SLOW = [EPSILON, pytest.param(VELOCITY_ZERO_SNR, marks=pytest.mark.slow)]
LATENTS, TEXT = draw(1, 4, 3, 6, 6), draw(1, 5, 12, seed=1)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_inversion_equals_diffusers(make_unet: MakeUNet, scheduler: dict[str, object]) -> None:
    video_unet = inflate(make_unet())
    reference = DDIMInverseScheduler(**scheduler, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    reference.set_timesteps(10)
    latents = LATENTS
    steps = list(invert(video_unet, LATENTS, TEXT, scheduler, InversionConfig(num_inference_steps=10)))
    for step, timestep in zip(steps, reference.timesteps, strict=True):
        with torch.no_grad():
            latents = reference.step(video_unet(latents, timestep, TEXT), timestep, latents).prev_sample
        assert step.timestep == timestep
        assert relative_error(step.latents, latents) < 1e-4


@pytest.mark.parametrize("scheduler", ONE_IS_SLOW)
def test_reconstruction_improves_with_more_steps(make_unet: MakeUNet, scheduler: dict[str, object]) -> None:
    video_unet, errors = inflate(make_unet()), []
    for steps in (20, 80):
        *_, noise = invert(video_unet, LATENTS, TEXT, scheduler, InversionConfig(num_inference_steps=steps))
        config = SamplingConfig(num_inference_steps=steps, guidance_scale=1.0)
        *_, back = sample(video_unet, noise.latents, TEXT, None, scheduler, config)
        errors.append(relative_error(back.latents, LATENTS))
    assert errors[1] < errors[0] / 2  # what inversion leaves out vanishes with the step
    assert errors[1] < 0.3


@pytest.mark.parametrize("scheduler", ONE_IS_SLOW)
def test_refined_inversion_reconstructs_the_clip(make_unet: MakeUNet, scheduler: dict[str, object]) -> None:
    video_unet, errors = inflate(make_unet()), []
    for refinements in (0, 2, 6):
        config = InversionConfig(num_inference_steps=20, refinements=refinements)
        *_, noise = invert(video_unet, LATENTS, TEXT, scheduler, config)
        back = sample(video_unet, noise.latents, TEXT, None, scheduler, SamplingConfig(20, guidance_scale=1.0))
        errors.append(relative_error(list(back)[-1].latents, LATENTS))
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 10


@pytest.mark.parametrize("scheduler", ONE_IS_SLOW)
def test_refinement_converges_where_plain_iteration_diverges(make_unet: MakeUNet, scheduler: dict[str, object]) -> None:
    unet = make_unet()
    unet.conv_out.weight.data *= 10  # predictions that change faster than the latents
    video_unet, config = inflate(unet), InversionConfig(num_inference_steps=20, refinements=20)
    *_, noise = invert(video_unet, LATENTS, TEXT, scheduler, config)
    back = sample(video_unet, noise.latents, TEXT, None, scheduler, SamplingConfig(20, guidance_scale=1.0))
    assert relative_error(list(back)[-1].latents, LATENTS) < 2e-3  # 2e-2 by repetition


def test_a_step_is_refined_until_it_moves_by_less_than_the_tolerance(make_unet: MakeUNet) -> None:
    video_unet, counts = inflate(make_unet()), {}
    for tolerance in (1.0, 1e-3, 1e-5, 0.0):
        predictions = []
        hook = video_unet.register_forward_hook(lambda *given, predictions=predictions: predictions.append(given))
        list(invert(video_unet, LATENTS, TEXT, VELOCITY_ZERO_SNR, InversionConfig(10, 12, tolerance)))
        hook.remove()
        counts[tolerance] = len(predictions)
    assert counts[1.0] == 20 < counts[1e-3] < counts[1e-5] < counts[0.0] == 10 * (1 + 12)


def test_a_batch_is_refined_until_its_slowest_clip_moves_by_less_than_the_tolerance(make_unet: MakeUNet) -> None:
    video_unet, config, counts = inflate(make_unet()), InversionConfig(3, 20, 1e-5), []
    hook = video_unet.register_forward_hook(lambda *_: counts.append(counts.pop() + 1))
    quick, slow = 1e3 * LATENTS, LATENTS  # beside large latents a move is small
    for clips in (quick, slow, torch.cat([quick, slow])):
        counts.append(0)
        list(invert(video_unet, clips, TEXT.expand(len(clips), -1, -1), EPSILON, config))
    hook.remove()
    assert counts[0] < counts[1] == counts[2] < 3 * 21, counts


def test_each_clip_of_a_batch_is_refined_as_if_alone(make_unet: MakeUNet) -> None:
    video_unet, config = inflate(make_unet()), InversionConfig(num_inference_steps=6, refinements=6, tolerance=0)
    clips, texts = torch.cat([LATENTS, draw(*LATENTS.shape, seed=2)]), TEXT.expand(2, -1, -1)
    *_, together = invert(video_unet, clips, texts, EPSILON, config)
    for row in (0, 1):
        *_, alone = invert(video_unet, clips[row : row + 1], TEXT, EPSILON, config)
        assert relative_error(together.latents[row], alone.latents[0]) < 1e-3


@pytest.mark.slow
def test_refinement_helps_a_model_of_half_precision_too(make_unet: MakeUNet) -> None:
    video_unet, errors = inflate(make_unet().half()), []
    for refinements in (0, 4, 20):
        config = InversionConfig(num_inference_steps=20, refinements=refinements)
        *_, noise = invert(video_unet, LATENTS, TEXT, VELOCITY_ZERO_SNR, config)
        back = sample(video_unet, noise.latents, TEXT, None, VELOCITY_ZERO_SNR, SamplingConfig(20, guidance_scale=1.0))
        errors.append(relative_error(list(back)[-1].latents, LATENTS))
    assert errors[1] < errors[0] / 10
    assert errors[2] < 2 * errors[1]  # rounding is left, and mixing does not make more of it


@pytest.mark.parametrize(("refinements", "timestep"), [(0, 201), (4, 1)])
def test_non_finite_predictions_raise(make_unet: MakeUNet, refinements: int, timestep: int) -> None:
    video_unet, predictions = inflate(make_unet()), []

    def spoil(*given: Tensor) -> Tensor:
        predictions.append(given[-1])
        return given[-1] * (torch.nan if len(predictions) == 3 else 1)

    video_unet.register_forward_hook(spoil)
    with pytest.raises(FloatingPointError, match=f"Inversion to timestep {timestep} "):
        list(invert(video_unet, LATENTS, TEXT, EPSILON, InversionConfig(10, refinements=refinements)))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_sampling_starts_partway_from_the_inversion_step_of_its_timestep(
    make_unet: MakeUNet, scheduler: dict[str, object]
) -> None:
    video_unet = inflate(make_unet())
    levels = {s.timestep: s.latents for s in invert(video_unet, LATENTS, TEXT, scheduler, InversionConfig(100))}
    config = SamplingConfig(num_inference_steps=100, guidance_scale=1.0, denoise=0.4)
    steps = list(sample(video_unet, levels[391], TEXT, None, scheduler, config))
    assert (steps[0].timestep, len(steps)) == (391, 40)
    assert relative_error(steps[-1].latents, LATENTS) < 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_latents_are_returned_as_float32_and_no_mode_leaks(make_unet: MakeUNet, dtype: torch.dtype) -> None:
    for step in invert(inflate(make_unet()), LATENTS.to(dtype), TEXT.to(dtype), EPSILON, InversionConfig(2)):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert step.latents.dtype == torch.float32 and not step.latents.requires_grad


def test_inversion_inside_inference_mode(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    expected = list(invert(video_unet, LATENTS, TEXT, EPSILON, InversionConfig(3)))
    with torch.inference_mode():
        got = list(invert(video_unet, LATENTS, TEXT, EPSILON, InversionConfig(3)))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(
    ("latents", "text", "steps", "message"),
    [
        (LATENTS[:, :, 0], TEXT, 2, "5 dimensions"),
        (LATENTS[:, :, :0], TEXT, 2, "at least one frame"),
        (LATENTS, TEXT[..., :8], 2, "width 12, got 8"),
        (LATENTS, TEXT.expand(3, -1, -1), 2, "one prompt for each clip"),
        (LATENTS, TEXT, 1001, "from 1 to 1000"),
    ],
)
def test_wrong_inputs_raise(make_unet: MakeUNet, latents: Tensor, text: Tensor, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(invert(inflate(make_unet()), latents, text, EPSILON, InversionConfig(steps)))


def test_zero_steps_raise() -> None:
    with pytest.raises(ValueError, match="num_inference_steps must be a whole number"):
        InversionConfig(num_inference_steps=0)
    with pytest.raises(ValueError, match="refinements must be a whole number"):
        InversionConfig(refinements=-1)
    with pytest.raises(ValueError, match="tolerance must be a number in"):
        InversionConfig(tolerance=-1e-3)


def test_reconstruction_snr_is_the_variance_over_the_error_in_decibels() -> None:
    clip = draw(1, 4, 3, 6, 6)
    noise = draw(1, 4, 3, 6, 6, seed=1)
    expected = 10 * float(torch.log10(clip.var() / (0.01 * noise).square().mean()))
    assert reconstruction_snr(clip, clip + 0.01 * noise) == pytest.approx(expected, abs=1e-3)
    assert reconstruction_snr(clip, clip) == float("inf")
    assert reconstruction_snr(clip.half(), clip + noise) < 3
    with pytest.raises(ValueError, match="give one shape"):
        reconstruction_snr(clip, clip[:, :, :2])


def test_steps_are_laid_out_as_a_file_gives_them_back(make_unet: MakeUNet) -> None:
    """Convolutions round by the layout of what they are given: else an inversion from a file samples to other bits."""
    as_encoded = LATENTS.transpose(1, 2).contiguous().transpose(1, 2)
    steps = list(invert(inflate(make_unet()), as_encoded, TEXT, EPSILON, InversionConfig(2)))
    assert all(step.latents.is_contiguous() for step in steps)
