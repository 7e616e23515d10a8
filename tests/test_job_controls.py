"""Edits steered by ControlNets, from the options of the command line to the video."""

from pathlib import Path

import pytest
import torch
from diffusers import T2IAdapter
from torch import Tensor

from tav_core import EditJob, draw_hints, load_model, read_video, run_edit, write_video
from tav_core.cli.main import parser
from tav_core.job.controls import HINTS, read_controls
from tav_core.job.files import field_value, parsed_fields
from tav_core.job.runner import KeptForNext
from tav_core.video import hints
from tests.test_job import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for the bundled model, with made-up weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("control") / "adapter"
    T2IAdapter(channels=list(load_model().unet.config.block_out_channels), num_res_blocks=1).save_pretrained(path)
    return path


def frames_of(job: EditJob) -> Tensor:
    return read_video(job.output).frames


def test_a_control_steers_the_edit_and_its_hints_count(tmp_path: Path, folder: Path) -> None:
    plain = run_edit(small(tmp_path)).job
    edits = {"plain": frames_of(plain)}
    for hint in HINTS:
        edits[hint] = frames_of(run_edit(small(tmp_path, control=(folder,), hint=(hint,))).job)
    assert not torch.equal(edits["plain"], edits["canny"]) and not torch.equal(edits["canny"], edits["lineart"])
    again = run_edit(small(tmp_path, control=(folder,), hint=("canny",), control_scale=(0.0,))).job
    assert torch.equal(frames_of(again), edits["plain"])


def test_tuning_without_the_control_is_the_plain_tuning(tmp_path: Path, folder: Path) -> None:
    losses = []
    for options in ({}, {"control_tuning": False}, {}):
        controls = dict(control=(folder,), hint=("canny",)) if len(losses) else {}
        kept = KeptForNext()
        job = small(tmp_path, **controls, **options)
        run_edit(job, None, kept)
        losses.append({name: w.clone() for name, w in kept.clip(job).editor.video_unet.adapter.state_dict().items()})
    plain, without, under = losses
    assert all(torch.equal(plain[name], without[name]) for name in plain)
    assert not all(torch.equal(plain[name], under[name]) for name in plain)


def test_hints_come_from_a_video_taken_as_the_clip_is(tmp_path: Path, folder: Path) -> None:
    job = small(tmp_path, start=0.25)
    model = load_model()
    drawn = draw_hints("canny", read_video(job.video, width=128, height=128).frames)
    file = write_video(tmp_path / "edges.mkv", drawn, read_video(job.video, num_frames=1).fps)
    frames = read_video(job.video, num_frames=job.num_frames, start=0.25, width=128, height=128).frames
    given = dict(control=(folder, folder), control_scale=(0.5, 0.25), control_end=(0.75,))
    controls = read_controls(small(tmp_path, start=0.25, hint=(file, "canny"), **given), model, frames)
    assert [(c.scale, c.start, c.end) for c in controls] == [(0.5, 0.0, 0.75), (0.25, 0.0, 0.75)]
    first, second = (control.hint for control in controls)
    torch.testing.assert_close(first, second, rtol=0, atol=0.01)


def test_options_repeat_and_a_table_separates_by_semicolons(tmp_path: Path) -> None:
    given = (
        "edit --video a --source-prompt b --prompt c --output d.mp4 --control x --hint canny --control y --hint z.mp4"
    )
    args = parser().parse_args(given.split())
    assert args.control == ["x", "y"] and args.hint == ["canny", "z.mp4"]
    assert field_value("control_scale", "0.5; 1") == (0.5, 1.0)
    fields = parsed_fields({"control": "x;/y", "hint": ["canny", "z.mp4"]}, tmp_path)
    assert fields == {"control": (tmp_path / "x", Path("/y")), "hint": ("canny", tmp_path / "z.mp4")}
    assert tuple(hints.HINTS) == HINTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(control=("x",)), "--control is given 1 times and --hint 0 times: give one --hint for each"),
        (dict(hint=("canny",)), "--control is given 0 times and --hint 1 times"),
        (dict(control=("x",), hint=("canny",), control_end=(0.5, 1.0)), "--control-end takes one number for all"),
        (dict(control=("nowhere",), hint=("canny",)), "There is no ControlNet at"),
    ],
)
def test_controls_that_do_not_fit_are_refused_before_tuning(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_edit(small(tmp_path, **options), lambda *_: pytest.fail("a stage ran"))
