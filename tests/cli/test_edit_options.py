"""The job that the options of `edit` make, with defaults and with options given."""

import argparse
from dataclasses import fields

from tav_core import EditJob, InversionConfig, SamplingConfig, TuningConfig
from tav_core.cli.main import parser
from tav_core.presets import BUNDLED

REST = ["edit", "--video", "v", "--source-prompt", "a", "--prompt", "b", "--output", "o.mp4"]


def job_of(args: argparse.Namespace) -> EditJob:
    return EditJob(**{field.name: getattr(args, field.name) for field in fields(EditJob)})


def job(*options):
    return job_of(parser().parse_args([*REST, *options]))


def settings(*options):
    made = job(*options).settings()
    return made.tuning, made.inversion, made.sampling


def test_settings_of_a_models_own_folder_are_the_published_ones():
    assert settings("--model", "sd") == (TuningConfig(), InversionConfig(), SamplingConfig())


def test_settings_of_the_bundled_model_are_those_of_the_demo():
    tuning, inversion = BUNDLED.tuning, BUNDLED.inversion
    branch = BUNDLED.source_branch
    assert settings() == settings("--start-from", "source_branch") == (tuning, inversion, branch["content"])
    assert settings("--changes", "look") == (tuning, inversion, branch["look"])
    assert settings("--start-from", "inversion") == (tuning, inversion, BUNDLED.sampling)
    given = {(): "source_branch", ("--start-from", "inversion"): "inversion", ("--model", "sd"): "inversion"}
    assert {options: job(*options).starts_from for options in given} == given


def test_source_preserving_edits_are_deflickered_by_default():
    given = {
        (): True,
        ("--no-deflicker",): False,
        ("--start-from", "inversion"): False,
        ("--model", "sd"): False,
        ("--model", "sd", "--start-from", "source_branch"): True,
        ("--model", "sd", "--deflicker"): True,
    }
    assert {options: job(*options).deflickers for options in given} == given


def test_an_option_sets_every_stage_that_it_concerns():
    given = {"--num-inference-steps": 7, "--seed": 3, "--denoise": 0.5, "--refinements": 2, "--tuning-steps": 9}
    options = [str(part) for pair in given.items() for part in pair]
    tuning, inversion, sampling = settings("--timestep-range", "0.6", *options)
    rate = BUNDLED.tuning.learning_rate
    assert (tuning.steps, tuning.seed, tuning.timestep_range, tuning.learning_rate) == (9, 3, 0.6, rate)
    assert (inversion.num_inference_steps, inversion.refinements) == (7, 2)
    assert (sampling.num_inference_steps, sampling.seed, sampling.denoise) == (7, 3, 0.5)
    assert sampling.guidance_scale == BUNDLED.source_branch["content"].guidance_scale
