"""What `edit` runs with when nothing is said, and when something is."""

from tav_core import InversionConfig, SamplingConfig, TuningConfig
from tav_core.cli.edit_options import edit_settings, kept, steadied
from tav_core.cli.main import parser
from tav_core.demo.run import INVERSION, SAMPLING, SOURCE_BRANCH, TUNING

REST = ["edit", "--video", "v", "--source-prompt", "a", "--prompt", "b", "--output", "o.mp4"]


def settings(*options):
    return edit_settings(parser().parse_args([*REST, *options]))


def test_a_models_own_settings_are_the_published_ones():
    assert settings("--model", "sd") == (TuningConfig(), InversionConfig(), SamplingConfig())


def test_the_bundled_model_has_the_settings_of_the_demo_and_keeps_its_clip():
    assert settings() == settings("--keep", "inversion") == (TUNING, INVERSION, SOURCE_BRANCH)
    assert settings("--keep", "nothing") == (TUNING, INVERSION, SAMPLING)
    given = {(): "noise", ("--keep", "inversion"): "inversion", ("--model", "sd"): "nothing"}
    assert {options: kept(parser().parse_args([*REST, *options])) for options in given} == given


def test_edits_beside_the_clip_are_steadied_unless_told_otherwise():
    given = {
        (): True,
        ("--no-steady",): False,
        ("--keep", "nothing"): False,
        ("--model", "sd"): False,
        ("--model", "sd", "--keep", "inversion"): True,
        ("--model", "sd", "--steady"): True,
    }
    assert {options: steadied(parser().parse_args([*REST, *options])) for options in given} == given


def test_what_is_given_counts_for_every_part_that_it_concerns():
    given = (
        "--num-inference-steps",
        "7",
        "--seed",
        "3",
        "--denoise",
        "0.5",
        "--refinements",
        "2",
        "--tuning-steps",
        "9",
    )
    tuning, inversion, sampling = settings("--timestep-range", "0.6", *given)
    assert (tuning.steps, tuning.seed, tuning.timestep_range, tuning.learning_rate) == (9, 3, 0.6, TUNING.learning_rate)
    assert (inversion.num_inference_steps, inversion.refinements) == (7, 2)
    assert (sampling.num_inference_steps, sampling.seed, sampling.denoise) == (7, 3, 0.5)
    assert sampling.guidance_scale == SAMPLING.guidance_scale
