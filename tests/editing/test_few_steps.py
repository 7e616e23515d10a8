"""Few steps: the timesteps and steps of diffusers' LCM scheduler, and the exact inversion on the same few timesteps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import LCMScheduler

from tav_core import (
    ClipEditor,
    InversionConfig,
    NoiseSchedule,
    SamplingConfig,
    ddim_invert,
    ddim_sample,
    lcm_sample,
    load_model,
    read_video,
    run_edit,
)
from tav_core.editing.samplers import sampler_of, schedule_of
from tests.conftest import EPSILON, draw
from tests.editing.test_samplers import VELOCITY, Curved
from tests.test_job import small

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
    x, generator = X, torch.Generator().manual_seed(6)  # not the seed of fresh noise
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


def test_a_name_is_a_spacing_and_a_sampler() -> None:
    schedule = NoiseSchedule.from_scheduler(EPSILON)
    found = {
        name: (schedule_of(name, schedule).timesteps(4), sampler_of(name))
        for name in ("ddim", "ddim_trailing", "ddim_lcm", "lcm")
    }
    assert found == {
        "ddim": ([751, 501, 251, 1], None),
        "ddim_trailing": ([999, 749, 499, 249], None),
        "ddim_lcm": ([999, 759, 499, 259], None),
        "lcm": ([999, 759, 499, 259], lcm_sample),
    }
    own = replace(schedule, timestep_spacing="linspace")
    assert schedule_of("ddim", own) is own, "that of the model"
    for name in (schedule_of, sampler_of):
        with pytest.raises(ValueError, match="sampler must be one of"):
            name("euler", schedule) if name is schedule_of else name("euler")


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "start"), [("lcm", "noise"), ("ddim_lcm", "inversion")])
def test_a_job_takes_the_few_steps_of_the_library(tmp_path: Path, sampler: str, start: str) -> None:
    job = small(tmp_path / "edit.mkv", sampler=sampler, start_from=start, seed=3, guidance_scale=1.5, denoise=1.0)
    edit = run_edit(job).edit
    model, settings = load_model(), job.settings()
    frames = read_video(job.video, num_frames=2, width=32, height=32).frames
    schedule = replace(NoiseSchedule.from_scheduler(model.scheduler), timestep_spacing="lcm")
    editor = ClipEditor(model, frames, job.source_prompt, scheduler=schedule)
    sampling = settings.sampling if start == "noise" else replace(settings.sampling, seed=0)
    for _ in editor.tune(settings.tuning):
        pass
    for _ in editor.invert(settings.inversion):
        pass
    assert [step.timestep for step in editor.trajectory] == [259, 499, 759, 999]
    by = lcm_sample if sampler == "lcm" else None
    *_, last = editor.edit(job.prompt, sampling, start_from=start, sampler=by)
    assert torch.equal(edit, editor.decode(last.latents))
