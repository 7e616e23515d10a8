"""The demo with less tuning: what it writes, and that its edits do what was asked."""

import json
from dataclasses import replace

import pytest
import torch

from tav_core.demo import run
from tav_core.video import read_video


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    labels = []

    def progress(steps, label, total):
        count = 0
        for step in steps:
            count += 1
            yield step
        labels.append(label)
        assert count == total

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "TUNING", replace(run.TUNING, steps=60))
        patch.setattr(run, "INVERSION", replace(run.INVERSION, num_inference_steps=20))
        patch.setattr(run, "SAMPLING", replace(run.SAMPLING, num_inference_steps=20))
        patch.setattr(run, "SOURCE_BRANCH", replace(run.SOURCE_BRANCH, num_inference_steps=20))
        report = run.run_demo(folder, progress)
    assert labels == ["tune", "invert", "reconstruction", *run.EDITS]
    return folder, report


def test_everything_is_written(demo):
    folder, report = demo
    source = read_video(folder / "source.mp4")
    assert source.frames.shape == (16, 128, 128, 3)
    for name in ("reconstruction.mp4", *(edit["file"] for edit in report["edits"].values())):
        clip = read_video(folder / name)
        assert clip.frames.shape == source.frames.shape
        assert clip.fps == source.fps
    assert read_video(folder / "comparison.mp4").fps == source.fps
    for name in ("contact_sheet.png", "loss.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "report.json").read_text())["edits"].keys() == run.EDITS.keys()


def test_edits_show_what_was_asked_where_the_source_was(demo):
    _, report = demo
    edits = report["edits"].values()
    assert sum(edit["success"] for edit in edits) / len(edits) >= 0.9
    assert max(edit["position_error"] for edit in edits) <= 4
    assert report["edits"]["colour"]["background_psnr"] > 35 > report["reconstruction_psnr"]
    for edit in edits:
        assert (edit["background_psnr"] is None) == ("background" in run.EDITS[_name(report, edit)])


def test_the_published_way_edits_too_and_keeps_less(demo, tmp_path, monkeypatch):
    for name, few in {"TUNING": {"steps": 1}, "INVERSION": {"num_inference_steps": 8}}.items():
        monkeypatch.setattr(run, name, replace(getattr(run, name), **few))
    monkeypatch.setattr(run, "SAMPLING", replace(run.SAMPLING, num_inference_steps=8))
    report = run.run_demo(tmp_path, lambda steps, label, total: steps, keep="nothing")
    assert report["settings"]["keep"] == "nothing"
    psnr = [edits["edits"]["colour"]["background_psnr"] for edits in (demo[1], report)]
    assert psnr[0] > psnr[1] + 5
    assert report["edits"]["colour"]["success"] >= 0.5


def test_reconstruction_is_the_source_again(demo):
    folder, report = demo
    source, again = (read_video(folder / name).frames for name in ("source.mp4", "reconstruction.mp4"))
    assert -10 * (source - again).square().mean().log10() > 18
    assert report["reconstruction_psnr"] > 18
    assert torch.isfinite(again).all()


def _name(report, edit):
    return next(name for name, other in report["edits"].items() if other is edit)
