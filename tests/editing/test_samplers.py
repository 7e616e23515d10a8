"""Samplers of one's own and of diffusers, over denoisers whose answer is known."""

import math
import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

import tav_core as tav
from tav_core import NoiseSchedule, SamplingConfig, SamplingStep, SourceBranch, edit, inflate, invert, sample, tune
from tav_core.editing.samplers import as_sampler
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, MakeUNet, draw, relative_error

CLIP, NOISE, TEXT = draw(1, 4, 2, 8, 8), draw(1, 4, 2, 8, 8, seed=1), draw(1, 5, 12, seed=2)
KINDS = (
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
    EulerDiscreteScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    DDIMScheduler,
)
OPTIONS = {DDIMScheduler: {"clip_sample": False}, PNDMScheduler: {"skip_prk_steps": True}}
VELOCITY = EPSILON | {"prediction_type": "v_prediction"}


@dataclass(frozen=True, eq=False)
class Exact:
    """Predicts what leads to one clip, from wherever."""

    schedule: NoiseSchedule
    clip: Tensor = CLIP

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        alpha = self.schedule.alpha(round(float(t)))
        noise = (x_t - alpha**0.5 * self.clip) / (1 - alpha) ** 0.5
        return (
            noise if self.schedule.prediction_type == "epsilon" else alpha**0.5 * noise - (1 - alpha) ** 0.5 * self.clip
        )


@dataclass(frozen=True, eq=False)
class Curved:
    """A smooth prediction that no sampler follows exactly."""

    schedule: NoiseSchedule

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        return torch.tanh(x_t + float(t) / 1000)


def last(steps: Iterator[SamplingStep]) -> Tensor:
    *_, step = steps
    return step.latents


@pytest.mark.parametrize("config", [EPSILON, VELOCITY], ids=lambda config: config["prediction_type"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("denoise", [1.0, 0.5])
def test_schedulers_of_diffusers_reach_the_clip(kind: type, config: dict, denoise: float) -> None:
    schedule = NoiseSchedule.from_scheduler(config | {"timestep_spacing": "trailing"})
    settings = SamplingConfig(num_inference_steps=20, denoise=denoise)
    start = schedule.add_noise(CLIP, NOISE, schedule.timesteps(20, denoise)[0])
    scheduler = kind.from_config(config, timestep_spacing="trailing", **OPTIONS.get(kind, {}))
    if kind is PNDMScheduler and denoise < 1:
        with pytest.raises(ValueError, match="begins with steps of its own"):
            list(as_sampler(scheduler)(Exact(schedule), start, settings))
        return
    steps = list(as_sampler(scheduler)(Exact(schedule), start, settings))
    assert len(steps) >= round(20 * denoise)
    assert steps[0].timestep == pytest.approx(schedule.timesteps(20, denoise)[0], abs=1)
    assert relative_error(steps[-1].latents, CLIP) < 0.1, "the last level of some is not quite clean"
    between = (steps[len(steps) // 2].latents - CLIP).abs().mean()
    assert 0.02 < between < (start - CLIP).abs().mean(), "latents are scaled alike between the steps too"


def sampler_of_the_guide(folder: Path) -> dict:
    text = (Path(__file__).parents[2] / "docs" / "guide" / "python.md").read_text(encoding="utf-8")
    (block,) = [code for code in re.findall(r"(?ms)^```python\n(.*?)^```", text) if "def dpm_solver_pp_2m" in code]
    code = block[block.index("def dpm_solver_pp_2m") :].split("\n\n\n")[0]
    assert len(code.splitlines()) <= 16
    (folder / "sampler.py").write_text(code, encoding="utf-8")
    return runpy.run_path(str(folder / "sampler.py"), {"torch": torch, "tav": tav, "math": math})


@pytest.mark.parametrize("config", [EPSILON, VELOCITY], ids=lambda config: config["prediction_type"])
def test_dpm_solver_of_the_guide_is_that_of_diffusers(config: dict, tmp_path: Path) -> None:
    schedule = NoiseSchedule.from_scheduler(config | {"timestep_spacing": "trailing"})
    theirs = DPMSolverMultistepScheduler.from_config(
        config, timestep_spacing="trailing", final_sigmas_type="sigma_min", lower_order_final=False
    )
    settings, denoiser = SamplingConfig(num_inference_steps=20), Curved(schedule)
    expected = list(as_sampler(theirs)(denoiser, NOISE, settings))
    got = list(as_sampler(sampler_of_the_guide(tmp_path)["dpm_solver_pp_2m"])(denoiser, NOISE, settings))
    assert [step.timestep for step in got] == [step.timestep for step in expected]
    for ours, other in zip(got, expected, strict=True):
        assert relative_error(ours.latents, other.latents) < 1e-3
    second_order = relative_error(got[-1].latents, last(tav.ddim_sample(denoiser, NOISE, settings)))
    assert second_order > 1e-2, "DDIM ends elsewhere"


def test_dpm_solver_of_the_guide_starts_where_no_signal_is_left(tmp_path: Path) -> None:
    schedule = NoiseSchedule.from_scheduler(VELOCITY_ZERO_SNR | {"timestep_spacing": "trailing"})
    assert schedule.alpha(schedule.timesteps(20)[0]) == 0
    sampler = as_sampler(sampler_of_the_guide(tmp_path)["dpm_solver_pp_2m"])
    got = last(sampler(Exact(schedule), NOISE, SamplingConfig(num_inference_steps=20)))
    assert relative_error(got, CLIP) < 0.1


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 7, 20, 50])
def test_spacings_are_those_of_diffusers(spacing: str, steps: int) -> None:
    theirs = DDIMScheduler.from_config(EPSILON, timestep_spacing=spacing, steps_offset=1, set_alpha_to_one=False)
    theirs.set_timesteps(steps)
    schedule = NoiseSchedule.from_scheduler(theirs)
    assert schedule.timesteps(steps) == theirs.timesteps.tolist()
    assert schedule.steps(steps)[-1][1] < 0
    assert schedule.timesteps(steps, 0.5) == schedule.timesteps(steps)[-max(1, round(steps / 2)) :]


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_makes_the_steps_of_diffusers_in_each_spacing(spacing: str) -> None:
    theirs = DDIMScheduler.from_config(
        EPSILON, timestep_spacing=spacing, steps_offset=1, set_alpha_to_one=False, clip_sample=False
    )
    denoiser, settings = Curved(NoiseSchedule.from_scheduler(theirs)), SamplingConfig(num_inference_steps=20)
    expected, got = as_sampler(theirs)(denoiser, NOISE, settings), tav.ddim_sample(denoiser, NOISE, settings)
    assert relative_error(last(got), last(expected)) < 1e-4


def test_a_sampler_makes_the_steps_of_an_edit(make_unet: MakeUNet) -> None:
    model, settings = inflate(make_unet()), SamplingConfig(num_inference_steps=3, guidance_scale=2.0)
    seen = []

    def halving(denoiser: tav.Denoiser, x_t: Tensor, config: SamplingConfig) -> Iterator[SamplingStep]:
        for t in denoiser.schedule.timesteps(config.num_inference_steps):
            prediction = denoiser(x_t, t)
            seen.append(prediction.requires_grad)
            x_t = x_t / 2 + 0 * prediction
            yield SamplingStep(t, x_t)

    steps = list(edit(model, NOISE, TEXT, TEXT, EPSILON, settings, sampler=halving))
    torch.testing.assert_close(steps[-1].latents, NOISE / 8)
    assert seen == [False] * 3, "no gradients are stored"
    with pytest.raises(ValueError, match="leave the sampler out"):
        edit(model, SourceBranch(CLIP, TEXT), TEXT, TEXT, EPSILON, settings, sampler=halving)
    by_theirs = last(
        sample(model, NOISE, TEXT, TEXT, EPSILON, settings, sampler=UniPCMultistepScheduler.from_config(EPSILON))
    )
    assert by_theirs.isfinite().all() and not torch.equal(
        by_theirs, last(sample(model, NOISE, TEXT, TEXT, EPSILON, settings))
    )


@pytest.mark.parametrize(
    ("sampler", "error", "message"),
    [
        (3, TypeError, "A sampler is a function"),
        (lambda denoiser, x_t, config: iter([x_t]), TypeError, "yields SamplingStep"),
        (lambda denoiser, x_t, config: iter([SamplingStep(1, x_t * torch.nan)]), FloatingPointError, "timestep 1 gave"),
        (EulerDiscreteScheduler.from_config(VELOCITY), ValueError, r"predicts epsilon.*from_config\(model.scheduler"),
        (EulerDiscreteScheduler(), ValueError, "other noise levels"),
        (FlowMatchEulerDiscreteScheduler(), ValueError, "other noise levels"),
        (EulerDiscreteScheduler, TypeError, r"no class: EulerDiscreteScheduler.from_config\(model.scheduler.config\)"),
        (DDIMInverseScheduler.from_config(EPSILON), ValueError, "goes from clip to noise"),
    ],
)
def test_what_is_no_sampler_of_the_model_is_refused(sampler: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        list(as_sampler(sampler)(Exact(NoiseSchedule.from_scheduler(EPSILON)), NOISE, SamplingConfig(4)))


def test_a_scheduler_without_zero_terminal_snr_is_named_as_such() -> None:
    """Made from the model's own config, it has other noise levels all the same."""
    denoiser = Exact(NoiseSchedule.from_scheduler(VELOCITY_ZERO_SNR))
    with pytest.raises(ValueError, match="zero terminal SNR.*HeunDiscreteScheduler cannot do: take one with rescale_b"):
        next(as_sampler(HeunDiscreteScheduler.from_config(VELOCITY_ZERO_SNR))(denoiser, NOISE, SamplingConfig(4)))
    fitting = DPMSolverMultistepScheduler.from_config(VELOCITY_ZERO_SNR, timestep_spacing="trailing")
    assert len(list(as_sampler(fitting)(denoiser, NOISE, SamplingConfig(4)))) == 4


def test_another_scheduler_in_place_of_ddim_is_refused_where_its_steps_matter(make_unet: MakeUNet) -> None:
    model, other = inflate(make_unet()), PNDMScheduler.from_config(EPSILON)
    for run in (
        lambda: sample(model, NOISE, TEXT, None, other, SamplingConfig(2, guidance_scale=1.0)),
        lambda: invert(model, CLIP, TEXT, other),
        lambda: edit(model, SourceBranch(CLIP, TEXT), TEXT, None, other, SamplingConfig(2, guidance_scale=1.0)),
    ):
        with pytest.raises(ValueError, match="those of DDIM, and PNDMScheduler makes others: give it as `sampler`"):
            next(run())
    assert next(tune(model, CLIP, TEXT, other)).step == 1, "tuning reads noise levels alone"
    assert next(invert(model, CLIP, TEXT, NoiseSchedule.from_scheduler(other))).timestep == 1


def test_a_scheduler_of_another_prediction_type_is_refused() -> None:
    """As far as the model's own is known: that of load_model."""
    model = tav.load_model()
    video_unet, text = inflate(model.unet), torch.zeros(1, 77, model.text_encoder.config.hidden_size)
    clip = torch.zeros(1, model.unet.config.in_channels, 2, 8, 8)
    for run in (tune, invert):
        with pytest.raises(ValueError, match=r"predicts 'v_prediction', .* says 'epsilon': .*model.scheduler"):
            next(run(video_unet, clip, text, DDIMScheduler()))


def smooth(clip: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool3d(clip, (1, 5, 5), 1, (0, 2, 2)) * 5


@pytest.mark.parametrize(("of_the_clip", "denoise", "warned"), [(True, 0.5, 0), (False, 0.5, 1), (False, 1.0, 0)])
def test_pure_noise_partway_warns(
    make_unet: MakeUNet, of_the_clip: bool, denoise: float, warned: int, recwarn: pytest.WarningsRecorder
) -> None:
    schedule, size = NoiseSchedule.from_scheduler(EPSILON), (1, 4, 4, 40, 40)
    first = schedule.timesteps(2, denoise)[0]
    noise = draw(*size, seed=3)
    start = schedule.add_noise(smooth(draw(*size, seed=4)), noise, first) if of_the_clip else noise
    next(sample(inflate(make_unet()), start, TEXT, None, schedule, SamplingConfig(2, 1.0, denoise=denoise)))
    assert len([w for w in recwarn if "look like pure noise" in str(w.message)]) == warned


def test_the_spacing_of_the_model_enters_the_key_of_an_inversion(make_unet: MakeUNet, tmp_path: Path) -> None:
    model, schedule = inflate(make_unet()), NoiseSchedule.from_scheduler(EPSILON)
    keys = {
        tav.Store(tmp_path).invert(model, CLIP, TEXT, replace(schedule, timestep_spacing=spacing)).key
        for spacing in ("leading", "trailing")
    }
    assert len(keys) == 2
