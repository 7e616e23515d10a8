"""Source-preserving edits: reconstruction of the clip, masks, and the recursion itself."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tav_core import (
    InversionConfig,
    NoiseSchedule,
    SamplingConfig,
    SourceBranch,
    inflate,
    invert,
    latent_mask,
    sample_with_source_branch,
)
from tav_core.diffusion.ddim import ddim_step
from tav_core.editing.propagation import FlowPropagation
from tav_core.editing.sampling import guided_denoiser
from tav_core.editing.source_branch import _branch
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, MakeUNet, draw, relative_error

CLIP, CAPTION, PROMPT, NEGATIVE = draw(1, 4, 3, 6, 6), draw(1, 5, 12, seed=1), draw(1, 5, 12, seed=2), draw(1, 9, 12)
CONFIG = SamplingConfig(num_inference_steps=10, guidance_scale=4.0, denoise=0.6)
ALONE = replace(CONFIG, propagate=False)


def edit(video_unet, source, positive=PROMPT, scheduler=EPSILON, config=CONFIG, negative=NEGATIVE, **options) -> Tensor:
    *_, step = sample_with_source_branch(video_unet, source, positive, negative, scheduler, config, **options)
    return step.latents


@pytest.fixture
def video_unet(make_unet: MakeUNet):
    return inflate(make_unet())


@pytest.fixture(params=["inversion", "noise"])
def source(request, video_unet) -> SourceBranch:
    config = InversionConfig(CONFIG.num_inference_steps)
    trajectory = list(invert(video_unet, CLIP, NEGATIVE, EPSILON, config)) if request.param == "inversion" else None
    return SourceBranch(CLIP, CAPTION, trajectory)


@pytest.mark.parametrize("scheduler", [EPSILON, VELOCITY_ZERO_SNR])
def test_reproduces_the_clip_exactly_under_its_caption_alone(video_unet, source, scheduler):
    assert torch.equal(edit(video_unet, source, CAPTION, scheduler), CLIP)
    assert relative_error(edit(video_unet, source, scheduler=scheduler), CLIP) > 0.01


def test_offset_is_the_difference_of_two_guided_steps(video_unet):
    trajectory = list(invert(video_unet, CLIP, NEGATIVE, EPSILON, InversionConfig(10)))
    schedule, by_timestep = NoiseSchedule.from_scheduler(EPSILON), {step.timestep: step.latents for step in trajectory}
    offset = torch.zeros_like(CLIP)
    source = SourceBranch(CLIP, CAPTION, trajectory)
    under_prompt, under_caption = (
        guided_denoiser(video_unet, text, NEGATIVE, EPSILON, CONFIG) for text in (PROMPT, CAPTION)
    )
    for step in sample_with_source_branch(video_unet, source, PROMPT, NEGATIVE, EPSILON, ALONE):
        t, branch = step.timestep, by_timestep[step.timestep]
        levels = schedule.alpha(t), schedule.alpha(t - 100), "epsilon"
        with torch.no_grad():
            edited = under_prompt(branch + offset, t)
            unedited = under_caption(branch, t)
        offset = ddim_step(branch + offset, edited, *levels) - ddim_step(branch, unedited, *levels)
        assert relative_error(step.latents, CLIP + offset) < 1e-5
    assert t == 1


def test_the_clip_can_have_a_guidance_of_its_own(video_unet):
    config = replace(CONFIG, num_inference_steps=1, denoise=1.0)
    unguided = replace(config, source_guidance_scale=1.0, propagate=False)
    schedule = NoiseSchedule.from_scheduler(EPSILON)
    (t, s), *_ = schedule.steps(1, 1.0)
    (branch,) = _branch(SourceBranch(CLIP, CAPTION), CLIP, schedule, [(t, s)], seed=0)
    levels = schedule.alpha(t), schedule.alpha(s), "epsilon"
    with torch.no_grad():
        edited = guided_denoiser(video_unet, PROMPT, NEGATIVE, EPSILON, config)(branch, t)
        unedited = guided_denoiser(video_unet, CAPTION, None, EPSILON, config)(branch, t)
    expected = CLIP + ddim_step(branch, edited, *levels) - ddim_step(branch, unedited, *levels)
    found = edit(video_unet, SourceBranch(CLIP, CAPTION), config=unguided)
    assert relative_error(found, expected) < 1e-5
    assert relative_error(edit(video_unet, SourceBranch(CLIP, CAPTION), config=config), expected) > 1e-3


def test_guided_away_from_the_caption_an_edit_needs_no_negative_prompt(video_unet):
    source, config = SourceBranch(CLIP, CAPTION), replace(CONFIG, guide_from_caption=True)
    found = edit(video_unet, source, config=config)
    assert torch.equal(found, edit(video_unet, source, config=config, negative=None))
    unguided = replace(CONFIG, source_guidance_scale=1.0)
    assert relative_error(found, edit(video_unet, source, config=unguided, negative=CAPTION)) < 1e-6
    assert (
        relative_error(edit(video_unet, source, CAPTION, config=config), CLIP) < 1e-5
    )  # passes of one clip and of two


def test_a_mask_locks_the_clip_where_it_is_zero(video_unet, source):
    mask = torch.zeros(1, 1, 3, 6, 6)
    mask[..., :3] = 1
    edited = edit(video_unet, source, mask=mask)
    assert torch.equal(edited[..., 3:], CLIP[..., 3:])
    assert relative_error(edited[..., :3], CLIP[..., :3]) > 0.01
    assert torch.equal(edit(video_unet, source, mask=torch.ones(1)), edit(video_unet, source))


def test_propagation_does_not_change_the_locked_area(video_unet, source, monkeypatch):
    monkeypatch.setattr(FlowPropagation, "propagate", lambda propagation, offset: offset.roll(3, -1))
    mask = torch.zeros(1, 1, 3, 6, 6)
    mask[..., :3] = 1
    edited = edit(video_unet, source, mask=mask)
    assert torch.equal(edited[..., 3:], CLIP[..., 3:])
    assert relative_error(edited[..., :3], CLIP[..., :3]) > 0.01


def test_latent_mask_marks_every_latent_pixel_that_the_mask_touches():
    mask = torch.zeros(3, 48, 48)
    mask[1, 20, 31], mask[2, 0, 0] = 1, 0.5
    expected = torch.zeros(1, 1, 3, 6, 6)
    expected[0, 0, 1, 2, 3], expected[0, 0, 2, 0, 0] = 1, 0.5
    assert torch.equal(latent_mask(mask, CLIP), expected)
    assert latent_mask(mask[:1].bool(), CLIP).shape == (1, 1, 1, 6, 6)
    with pytest.raises(ValueError, match="one frame or all 3"):
        latent_mask(mask[:2], CLIP)


def test_fresh_noise_depends_on_the_seed_alone(video_unet):
    source, before = SourceBranch(CLIP, CAPTION), torch.get_rng_state()
    first, again = edit(video_unet, source), edit(video_unet, source)
    other = edit(video_unet, source, config=SamplingConfig(10, 4.0, seed=1, denoise=0.6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_fresh_noise_is_drawn_anew_for_each_step():
    schedule, timesteps = NoiseSchedule.from_scheduler(EPSILON), [701, 501]
    steps = list(zip(timesteps, (501, 301), strict=True))
    levels = _branch(SourceBranch(CLIP, CAPTION), CLIP, schedule, steps, seed=0)
    alphas = [schedule.alpha(timestep) for timestep in timesteps]
    noise = [(x - a**0.5 * CLIP) / (1 - a) ** 0.5 for x, a in zip(levels, alphas, strict=True)]
    for drawn in noise:
        assert 0.9 < drawn.std() < 1.1
    assert abs((noise[0] * noise[1]).mean()) < 0.2


def test_offsets_are_propagated_at_high_noise_only(video_unet):
    still, config = CLIP[:, :, :1].expand_as(CLIP), SamplingConfig(10, 4.0, denoise=0.6)
    steps = list(sample_with_source_branch(video_unet, SourceBranch(still, CAPTION), PROMPT, NEGATIVE, EPSILON, config))
    for step in steps:
        apart = relative_error(step.latents, step.latents[:, :, :1].expand_as(still))
        assert apart < 5e-3 if step.timestep > 400 else apart > 0.01, step.timestep
    alone = edit(video_unet, SourceBranch(still, CAPTION), config=replace(config, propagate=False))
    assert relative_error(steps[-1].latents, alone) > 0.01


def test_high_noise_guidance_acts_at_high_noise_only(video_unet):
    source, late = SourceBranch(CLIP, CAPTION), SamplingConfig(10, 4.0, denoise=0.4)
    config = SamplingConfig(10, 4.0, denoise=0.6, high_noise_guidance_scale=9.0)
    assert relative_error(edit(video_unet, source, config=config), edit(video_unet, source)) > 0.01
    early = SamplingConfig(10, 4.0, denoise=0.4, high_noise_guidance_scale=9.0)
    assert torch.equal(edit(video_unet, source, config=early), edit(video_unet, source, config=late))


def test_half_precision_latents_are_edited_in_float32(video_unet):
    assert edit(video_unet, SourceBranch(CLIP.half(), CAPTION)).dtype == torch.float32


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (SourceBranch(CLIP, CAPTION, []), {}, "did not pass timestep"),
        (SourceBranch(CLIP, CAPTION), {"negative": None}, "needs a negative embedding"),
        (SourceBranch(CLIP, CAPTION), {"config": SamplingConfig(10, 4.0, eta=0.5)}, "eta 0"),
        (SourceBranch(CLIP, CAPTION), {"mask": torch.ones(1, 1, 2, 6, 6)}, "mask"),
        (SourceBranch(CLIP, CAPTION), {"mask": torch.full((1, 1, 1, 1, 1), 255, dtype=torch.uint8)}, "lie in"),
        (SourceBranch(CLIP, CAPTION), {"mask": torch.full((1, 1, 1, 1, 1), torch.nan)}, "lie in"),
        (SourceBranch(CLIP, CAPTION), {"mask": torch.full((1, 1, 1, 1, 1), -0.5)}, "lie in"),
    ],
)
def test_wrong_inputs_raise(video_unet, source, options, message):
    with pytest.raises(ValueError, match=message):
        edit(video_unet, source, **options)


@pytest.mark.parametrize(
    "mask", [255 * torch.ones(3, 48, 48), torch.ones(3, 48, 48) - 2, torch.ones(3, 48, 48).numpy()]
)
def test_a_mask_of_another_range_or_type_is_refused(mask):
    with pytest.raises((TypeError, ValueError), match=r"mask must (lie in \[0, 1\]|be a Tensor)"):
        latent_mask(mask, CLIP)


def test_a_guidance_of_the_clip_without_effect_is_refused(video_unet):
    config = replace(CONFIG, guide_from_caption=True, source_guidance_scale=2.0)
    with pytest.raises(ValueError, match="source_guidance_scale has no effect with guide_from_caption"):
        edit(video_unet, SourceBranch(CLIP, CAPTION), config=config)
