"""EditJob: its fields, the settings it makes, and run_edit from file to file with a report."""

import json
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tav_core import EditJob, EditReport, read_video, run_edit
from tav_core.cli.main import main, parser
from tav_core.job.check import check_job
from tav_core.models.base import ASSETS
from tav_core.presets import BUNDLED, PRESETS, PUBLISHED

REQUIRED = ["edit", "--video", "v", "--source-prompt", "a", "--prompt", "b", "--output", "o.mp4"]
JOB = EditJob(video="v", source_prompt="a", prompt="b", output=Path("o.mp4"))
SMALL = dict(num_frames=2, width=32, height=32, tuning_steps=2, num_inference_steps=4)


def small(output: Path, **changes: Any) -> EditJob:
    """An edit of a few seconds."""
    clip = ASSETS / "demo-clip.mp4"
    prompts = dict(
        source_prompt="a red person jumps on the beach, flat colours",
        prompt="a blue person jumps on the beach, flat colours",
    )
    return EditJob(video=clip, output=output, **prompts, **SMALL | changes)


def test_fields_are_the_options_of_edit() -> None:
    options = vars(parser().parse_args(REQUIRED))
    options.pop("run")
    assert {*options} == {field.name for field in fields(EditJob)}
    defaults = {field.name: field.default for field in fields(EditJob) if field.default is not MISSING}
    defaults["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    assert {name: str(options[name]) for name in defaults} == {name: str(value) for name, value in defaults.items()}


def test_presets_decide_what_is_not_given() -> None:
    fast, published = (replace(JOB, preset=name) for name in ("fast", "published"))
    assert (fast.settings().tuning.steps, JOB.settings().tuning.steps) == (25, 100)
    assert fast.settings().sampling.guidance_scale == 1 and fast.starts_from == JOB.starts_from == "source_branch"
    assert (published.starts_from, published.settings().tuning.steps) == ("inversion", 500)
    assert published.settings().inversion.num_inference_steps == published.settings().sampling.num_inference_steps == 50
    assert replace(fast, tuning_steps=7).settings().tuning.steps == 7
    own = {name: replace(JOB, model="sd", preset=name).settings() for name in PRESETS}
    assert own["default"] == own["published"]
    assert own["fast"].tuning.steps == own["published"].tuning.steps / 4
    with pytest.raises(ValueError, match="preset must be one of"):
        check_job(replace(JOB, preset="slow"))


@pytest.mark.parametrize(("model", "preset"), [({}, BUNDLED), ({"model": "sd"}, PUBLISHED)], ids=["bundled", "own"])
def test_settings_are_those_of_the_models_preset(model: dict[str, str], preset: Any) -> None:
    made = replace(JOB, **model).settings()
    assert (made.tuning, made.inversion) == (preset.tuning, preset.inversion)
    assert made.sampling == preset.sampling_from(preset.start_from)
    assert replace(JOB, **model, start_from="inversion").settings().sampling == preset.sampling
    branch = replace(JOB, **model, start_from="source_branch")
    assert branch.settings().sampling == preset.source_branch["content"]
    assert replace(branch, changes="look").settings().sampling == preset.source_branch["look"]
    assert replace(JOB, **model, start_from="noise").settings().sampling == replace(preset.sampling, denoise=1.0)


def test_settings_that_are_given_override_the_preset() -> None:
    made = replace(
        JOB, num_inference_steps=7, seed=3, denoise=0.5, learning_rate=0.1, start_from="inversion"
    ).settings()
    assert made.tuning == replace(BUNDLED.tuning, seed=3, learning_rate=0.1)
    assert made.inversion == replace(BUNDLED.inversion, num_inference_steps=7)
    assert made.sampling == replace(BUNDLED.sampling, num_inference_steps=7, seed=3, denoise=0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_from": "clip"}, "start_from must be one of"),
        ({"start_from": "inversion", "mask": "m.mp4"}, "--mask locks parts"),
        ({"start_from": "inversion", "changes": "look"}, "--changes is of a source-preserving edit"),
        ({"start_from": "source_branch", "changes": "colour"}, "changes must be one of"),
        ({"start_from": "source_branch", "negative_prompt": "snow"}, "--no-guide-from-caption"),
        ({"start_from": "inversion", "cross_replace_steps": 0.5}, "cross_replace_steps acts in a source-preserving"),
        ({"start_from": "noise", "denoise": 0.5}, "give --denoise 1"),
        ({"start_from": "source_branch", "sampler": "lcm"}, "set sampler to ddim_lcm"),
        ({"sampler": "euler"}, "sampler must be one of"),
        ({"sampler": "ddim_lcm", "num_inference_steps": 51}, "with lcm spacing must be a whole number from 1 to 50"),
        ({"strength": 101.0}, "--strength must be a number"),
        ({"output": Path("o.xyz")}, "xyz"),
        ({"device": "hpu"}, "hpu cannot be used here"),
        ({"num_inference_steps": 1001}, "from 1 to 1000, not 1001"),
        ({"tuning_steps": 0}, "steps must be"),
    ],
)
def test_wrong_jobs_raise_before_anything_is_tuned(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    def progress(steps: Any, label: str, total: int) -> Any:
        pytest.fail(f"{label} has begun")

    with pytest.raises(ValueError, match=message):
        run_edit(replace(small(tmp_path / "edit.mp4"), **changes), progress)


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> tuple[EditReport, list[tuple[str, int, int]]]:
    """An edit from the inversion, and the label, number and total of the steps of each stage."""
    folder, stages = tmp_path_factory.mktemp("job"), []

    def progress(steps: Any, label: str, total: int) -> Any:
        taken = []
        for step in steps:
            taken.append(step)
            yield step
        stages.append((label, len(taken), total))

    job = small(folder / "edit.mp4", start_from="inversion", denoise=1.0, report=folder / "report.json")
    return run_edit(job, progress), stages


def test_run_edit_writes_the_video(inverted: Any) -> None:
    report, stages = inverted
    assert read_video(report.output).frames.shape == (2, 32, 32, 3)
    assert stages == [("tune", 2, 2), ("invert", 4, 4), ("reconstruct", 4, 4), ("sample", 4, 4)]


def test_report_holds_settings_versions_reconstruction_seconds_and_memory(inverted: Any) -> None:
    report, _ = inverted
    written = json.loads(json.dumps(report.as_json()))
    assert written["settings"]["tuning"]["steps"] == 2 and written["settings"]["sampling"]["num_inference_steps"] == 4
    assert written["settings"]["inversion"]["num_inference_steps"] == 4
    assert written["job"]["prompt"] == "a blue person jumps on the beach, flat colours"
    assert torch.__version__.startswith(written["versions"]["torch"]) and {"python", "diffusers"} <= {
        *written["versions"]
    }
    assert 0 < written["reconstruction"]["snr_db"] < 100
    assert {"tune", "invert", "sample", "decode", "all"} <= {*written["seconds"]}
    stages = sum(report.seconds[stage] for stage in ("tune", "invert", "sample", "decode"))
    assert 0 < stages <= report.seconds["all"]
    assert 2**20 < written["peak_memory_bytes"] < 2**40
    assert written["strength"] == {"taken": 1.0, "trials": []}


@pytest.mark.parametrize("start_from", ["noise", "source_branch"])
def test_other_starts_need_no_inversion(tmp_path: Path, start_from: str) -> None:
    report = run_edit(small(tmp_path / "edit.mp4", start_from=start_from))
    assert read_video(report.output).frames.shape == (2, 32, 32, 3)
    assert report.reconstruction_snr is None and report.seconds["invert"] == 0


def test_strength_search_is_reported(tmp_path: Path) -> None:
    report = run_edit(small(tmp_path / "edit.mp4", strength="auto"))
    assert [trial.strength for trial in report.trials] == [0.25, 0.5, 0.75, 1.0]
    assert report.strength in (0.25, 0.5, 0.75, 1.0)
    assert len(report.as_json()["strength"]["trials"]) == 4


def test_edit_writes_the_report_beside_the_video(tmp_path: Path) -> None:
    job = small(tmp_path / "edit.mp4", report=tmp_path / "report.json", start_from="source_branch")
    given = {field.name: getattr(job, field.name) for field in fields(EditJob)}
    set_here = {name: value for name, value in given.items() if value != getattr(JOB, name) and name != "device"}
    options = [part for name, value in set_here.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["edit", *options, "--device", "cpu"]) == 0
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["job"]["start_from"] == "source_branch" and written["settings"]["tuning"]["steps"] == 2


def test_heat_maps_are_written_beside_the_video(tmp_path: Path) -> None:
    report = run_edit(small(tmp_path / "edit.mp4", start_from="noise", heat_maps=tmp_path / "words.mp4"))
    shown = read_video(tmp_path / "words.mp4").frames
    assert shown.shape[0] == 2 and shown.shape[2] == 4 * 256  # seven words, four panels in a row
    assert report.seconds["heat maps"] > 0
    with pytest.raises(ValueError, match="xyz"):
        run_edit(small(tmp_path / "edit.mp4", heat_maps=tmp_path / "words.xyz"))
