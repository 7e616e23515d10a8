"""The demo: what it writes, on two frames and a few steps; and, in full, that its edits are right."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tav_core.demo import run
from tav_core.demo.clip import bundled_clip
from tav_core.demo.edits import EDITS, MEASURES, judged
from tav_core.demo.world import caption, draw
from tav_core.editing.config import InversionConfig
from tav_core.presets import BUNDLED, Preset
from tav_core.video import read_video
from tests.pages import check_page

FRAMES = 2
# What the full demo must reach: frames that are loosely right, in the mean over the five edits and of the other coat
# alone, and what tuning gains in the edit that shows it. Measured: .42, 1, .24 and 4.8 dB (docs/LOG.md).
LOOSE_FLOOR, COAT_FLOOR, IOU_GAIN, FIGURE_GAIN_DB = 0.35, 0.9, 0.15, 3.0
LOST_DB = 1.0  # of the reconstruction, against the autoencoder's round trip


def shortened(tuning_steps: int, num_inference_steps: int) -> Preset:
    short = {"num_inference_steps": num_inference_steps}
    return replace(
        BUNDLED,
        tuning=replace(BUNDLED.tuning, steps=tuning_steps),
        inversion=replace(BUNDLED.inversion, **short),
        sampling=replace(BUNDLED.sampling, **short),
        source_branch={kind: replace(config, **short) for kind, config in BUNDLED.source_branch.items()},
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder, labels = tmp_path_factory.mktemp("demo"), []

    def progress(steps, label, total):
        count = 0
        for step in steps:
            count += 1
            yield step
        labels.append(label)
        assert count == total

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "RECONSTRUCTION", InversionConfig(num_inference_steps=2))
        report = run.run_demo(folder, progress, preset=shortened(1, 2), start_from="inversion", num_frames=FRAMES)
    edits = [label for name in EDITS for label in (name, f"{name}, heat maps")]
    expected = ["invert, untuned", "place, untuned", "tune", "invert exactly", "reconstruction", "invert", *edits]
    assert labels == expected and set(expected) < report["seconds"].keys()
    return folder, report


def test_writes_videos_and_pictures(demo):
    folder, report = demo
    fps = bundled_clip().fps
    edits = [*report["edits"].values(), *report["tuning"].values()][:-1]
    clips = ["source.mp4", "reconstruction.mp4", *(edit[file] for edit in edits for file in ("file", "truth"))]
    for name in clips:
        clip = read_video(folder / name)
        assert clip.frames.shape == (FRAMES, 128, 128, 3) and clip.fps == fps
    for name in ("comparison.mp4", *(edit["heat_maps"] for edit in report["edits"].values())):
        clip = read_video(folder / name)
        assert len(clip.frames) == FRAMES and clip.frames.shape[2] > 512 and clip.fps == fps
    for name in ("contact_sheet.png", "loss.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_report_has_what_the_judge_says(demo):
    folder, report = demo
    written = json.loads((folder / "report.json").read_text())
    assert written["edits"].keys() == EDITS.keys() and written["edits"] == report["edits"]
    for name, edit in written["edits"].items():
        assert edit["prompt"] == caption(bundled_clip().words | EDITS[name])
        assert edit["kind"] == name.replace("-", " ")
        assert 0 <= edit["strict"] <= edit["loose"] <= 1
        assert all(0 <= edit[measure] <= 1 for measure in ("iou", "figure", "rest", "changed"))
        assert set(MEASURES) < edit.keys()
    assert written["tuning"]["tuned"] == written["edits"]["place"] and written["tuning"]["start_from"] == "inversion"
    assert written["settings"]["start_from"] == "inversion"


def test_the_untuned_edit_is_by_the_untuned_model(demo):
    folder, report = demo
    tuned, untuned = (
        read_video(folder / edit["file"]).frames for edit in (report["tuning"]["tuned"], report["tuning"]["untuned"])
    )
    assert 0 < (tuned - untuned).abs().mean() < 0.2


def test_the_page_plays_by_itself(demo):
    folder, report = demo
    page = (folder / "report.html").read_text(encoding="utf-8")
    outside = re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert not outside, "the page is self-contained"
    assert len(re.findall(r"<video src=\"data:video/mp4;base64,[^\"]{500,}", page)) == 2 + 2 * len(EDITS)
    assert page.count("controls autoplay loop muted playsinline") == 2 + 2 * len(EDITS)
    assert page.count("<video") == page.count('aria-label="') - page.count("<meter"), "each clip says what it shows"
    assert page.count('class="wide"') == page.count('class="wide" tabindex="0"'), "wide parts scroll by keyboard"
    text = re.sub(r"<[^>]+>", "", page)
    for edit in report["edits"].values():
        assert f"{edit['prompt']}" in text
        right = f"{round(edit['strict'] * FRAMES)} of {FRAMES} frames are right by the strict measure"
        assert right in " ".join(text.split())
    for word in ("not tuned", "the true edit", "outline", "surroundings", "blue", "cartwheel"):
        assert word in text
    assert "<mark>blue</mark>" in page and "<mark>person</mark>" not in page


@pytest.mark.slow
def test_the_page_is_for_everybody(demo):
    check_page(demo[0] / "report.html")


def test_the_true_edit_is_right_and_the_source_is_not():
    clip = bundled_clip()
    source = draw(clip.scene, clip.words, FRAMES)
    for name, words in EDITS.items():
        true = torch.from_numpy(draw(clip.scene, clip.words | words, FRAMES).frames)
        right, wrong = (judged(name, words, frames, source) for frames in (true, torch.from_numpy(source.frames)))
        assert (right.num_strict, right.num_loose) == (FRAMES, FRAMES)
        assert wrong.num_strict == wrong.num_loose == 0
        torch.testing.assert_close(right.truth, true, rtol=0, atol=0)


def test_heat_maps_of_words_that_show_nothing_are_left_out():
    clip = bundled_clip()
    source = draw(clip.scene, clip.words, FRAMES)
    maps = [(word, torch.zeros(FRAMES, 16, 16)) for word in ("a", "blue", "person", "on", "the", "beach")]
    edit = judged("coat", EDITS["coat"], torch.from_numpy(source.frames), source, maps)
    assert [word for word, _ in edit.heat_maps] == ["blue", "person", "beach"]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return run.run_demo(tmp_path_factory.mktemp("full"), lambda steps, label, total: steps)


@pytest.mark.slow
def test_edits_of_the_full_demo_are_right(full):
    assert np.mean([edit["loose"] for edit in full["edits"].values()]) >= LOOSE_FLOOR
    assert full["edits"]["coat"]["loose"] >= COAT_FLOOR


@pytest.mark.slow
def test_tuning_pays_in_the_full_demo(full):
    tuned, untuned = full["tuning"]["tuned"], full["tuning"]["untuned"]
    assert tuned["iou"] >= untuned["iou"] + IOU_GAIN
    assert tuned["figure_psnr"] >= untuned["figure_psnr"] + FIGURE_GAIN_DB


@pytest.mark.slow
def test_reconstruction_of_the_full_demo_is_near_the_round_trip(full):
    assert full["reconstruction_psnr"] > full["round_trip_psnr"] - LOST_DB
    assert full["round_trip_psnr"] > 32
