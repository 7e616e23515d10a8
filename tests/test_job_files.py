"""Jobs as JSON, and edits that share a model and a clip."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tav_core import EditJob, read_video, run_edit
from tav_core.cli.main import main
from tav_core.job.files import FieldError, field_value, job_path, job_values, parsed_fields, read_job, write_job
from tav_core.job.runner import KeptForNext
from tests.test_job import small

OTHER = {  # a value that is not the default, for every field
    "video": "c.mp4", "source_prompt": "c", "prompt": "d", "output": Path("p.mp4"), "negative_prompt": "n",
    "model": Path("m"), "num_frames": 3, "start": 0.5, "fps": 12.5, "width": 64, "height": 72, "tuning_steps": 4,
    "learning_rate": 0.25, "timestep_range": 0.5, "num_inference_steps": 5, "refinements": 1, "guidance_scale": 2.5,
    "high_noise_guidance_scale": 3.5, "source_guidance_scale": 1.5, "cross_replace_steps": 0.5,
    "self_replace_steps": 0.25, "guide_from_caption": False, "propagate": True, "denoise": 0.75, "seed": 7,
    "start_from": "noise", "changes": "look", "mask": "k.mp4", "deflicker": False, "strength": 0.5,
    "gradient_checkpointing": "on", "store": Path("s"), "device": torch.device("cuda:1"), "dtype": "bfloat16",
    "heat_maps": Path("h.mp4"), "report": Path("r.json"), "control": (Path("n"),), "hint": ("canny",),
    "control_scale": (0.5,), "control_start": (0.25,), "control_end": (0.75,), "control_tuning": False,
    "sampler": "ddim_lcm",
}  # fmt: skip


def test_a_job_file_holds_every_field(tmp_path: Path) -> None:
    assert {*OTHER} <= {field.name for field in fields(EditJob)}
    job = EditJob(**OTHER | {"output": tmp_path / "p.mp4"})
    given = {field.name for field in fields(EditJob) if getattr(job, field.name) != field.default}
    assert given >= {*OTHER}, "the table above lacks a new field, or its value is the default"
    path = write_job(job)
    assert path == tmp_path / "p.job.json" == job_path(job.output)
    assert job_values(EditJob(**read_job(path))) == job_values(job)


def test_paths_of_a_job_file_start_from_its_folder(tmp_path: Path) -> None:
    values = parsed_fields({"video": "a.mp4", "model": "demo", "store": str(tmp_path / "s")}, Path("folder"))
    assert values == {"video": Path("folder/a.mp4"), "model": "demo", "store": tmp_path / "s"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_frames", "many", "num_frames is 'many': a whole number is expected"),
        ("num_frames", 2.5, "num_frames is 2.5: a whole number is expected"),
        ("num_frames", True, "num_frames is True: a whole number"),
        ("denoise", "half", "denoise is 'half': a number is expected"),
        ("propagate", "maybe", "propagate is 'maybe': write true or false"),
        ("start_from", "clip", "start_from is 'clip': take one of inversion, noise, source_branch"),
        ("strength", "strong", "strength is 'strong': a number or auto is expected"),
        ("control_scale", "0.5;much", "control_scale is 'much': a number is expected"),
        ("prompt", [1], "prompt is .*: text is expected"),
    ],
)
def test_wrong_values_name_the_field_and_what_is_expected(name: str, value: Any, message: str) -> None:
    with pytest.raises(FieldError, match=message) as raised:
        field_value(name, value)
    assert raised.value.field == name


def test_cells_of_text_become_numbers_and_booleans() -> None:
    cells = {"num_frames": "4", "denoise": "0.5", "propagate": "no", "strength": "auto", "seed": 3.0, "mask": None}
    assert parsed_fields(cells, Path()) == {
        "num_frames": 4, "denoise": 0.5, "propagate": False, "strength": "auto", "seed": 3,
    }  # fmt: skip
    assert field_value("strength", 1) == 1.0


@pytest.mark.parametrize("content", ["", "[]", '{"format": "tune-a-video-job", "version": 1}', "[" * 10**5])
def test_other_files_are_no_jobs(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.job.json").write_text(content)
    with pytest.raises(ValueError, match=r"give the \.job\.json"):
        read_job(tmp_path / "a.job.json")


def test_job_option_repeats_an_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run_edit(small(tmp_path / "a.mp4", seed=5))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["edit", "--job", str(tmp_path / "a.job.json"), "--output", "b.mp4"]) == 0
    assert (elsewhere / "b.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()
    assert json.loads((elsewhere / "b.job.json").read_text())["job"]["output"] == str(elsewhere / "b.mp4")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["edit", "--job", "missing.job.json"])
    assert "missing.job.json" in capsys.readouterr().err


@pytest.mark.slow
def test_edits_that_share_a_clip_tune_and_invert_once_and_are_those_of_single_runs(tmp_path: Path) -> None:
    stages: list[str] = []

    def progress(steps: Any, label: str, total: int) -> Any:
        stages.append(label)
        return steps

    published = dict(start_from="inversion", deflicker=False)
    job = small(tmp_path / "0.mp4", **published)
    green = "a green person jumps on the beach, flat colours"
    jobs = [
        job, replace(job, prompt=green), replace(job, start_from="noise", seed=0), replace(job, strength=0.5),
        replace(job, strength=0.25, prompt=green), replace(job, tuning_steps=3), job,
    ]  # fmt: skip
    jobs = [replace(job, output=tmp_path / f"{number}.mp4") for number, job in enumerate(jobs)]
    kept = KeptForNext()
    together = [run_edit(job, progress, kept).edit for job in jobs]
    counts = {label: stages.count(label) for label in ("tune", "invert", "sample")}
    assert counts == {"tune": 3, "invert": 5, "sample": 7}
    for job, edit in zip(jobs, together, strict=True):
        assert torch.equal(run_edit(replace(job, output=tmp_path / "alone.mp4")).edit, edit)
    assert read_video(tmp_path / "6.mp4").frames.shape == (2, 32, 32, 3)
