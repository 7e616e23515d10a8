"""The demo with less tuning: what it writes, and that its edits follow their prompts."""

import json
from dataclasses import replace

import pytest
import torch

from tav_core.demo import run
from tav_core.presets import BUNDLED, Preset
from tav_core.video import read_video

pytestmark = pytest.mark.slow


def shortened(tuning_steps: int, num_inference_steps: int) -> Preset:
    return replace(
        BUNDLED,
        tuning=replace(BUNDLED.tuning, steps=tuning_steps),
        inversion=replace(BUNDLED.inversion, num_inference_steps=num_inference_steps),
        sampling=replace(BUNDLED.sampling, num_inference_steps=num_inference_steps),
        source_branch=replace(BUNDLED.source_branch, num_inference_steps=num_inference_steps),
    )


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
        patch.setattr(run, "BUNDLED", shortened(tuning_steps=60, num_inference_steps=20))
        report = run.run_demo(folder, progress)
    assert labels == ["tune", "invert", "reconstruction", *run.EDITS]
    return folder, report


def test_writes_videos_pictures_and_report(demo):
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


def test_edits_show_their_prompts_along_the_sources_path(demo):
    _, report = demo
    edits = report["edits"].values()
    assert sum(edit["success"] for edit in edits) / len(edits) >= 0.9
    assert max(edit["position_error"] for edit in edits) <= 4
    assert report["edits"]["colour"]["background_psnr"] > 35 > report["reconstruction_psnr"]
    for edit in edits:
        assert (edit["background_psnr"] is None) == ("background" in run.EDITS[_name(report, edit)])


def test_edits_from_the_inversion_preserve_less_of_the_background(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "BUNDLED", shortened(tuning_steps=1, num_inference_steps=8))
    report = run.run_demo(tmp_path, lambda steps, label, total: steps, start_from="inversion")
    assert report["settings"]["start_from"] == "inversion"
    psnr = [edits["edits"]["colour"]["background_psnr"] for edits in (demo[1], report)]
    assert psnr[0] > psnr[1] + 5
    assert report["edits"]["colour"]["success"] >= 0.5


def test_reconstruction_is_close_to_the_source(demo):
    folder, report = demo
    source, reconstruction = (read_video(folder / name).frames for name in ("source.mp4", "reconstruction.mp4"))
    assert -10 * (source - reconstruction).square().mean().log10() > 18
    assert report["reconstruction_psnr"] > 18
    assert torch.isfinite(reconstruction).all()


def _name(report, edit):
    return next(name for name, other in report["edits"].items() if other is edit)
