"""`evaluate`, from files to the page."""

import csv
import re

import numpy as np
import pytest
import torch

import tav_core.cli.evaluate
from tav_core.cli.main import main
from tav_core.evaluation import evaluate, mean_figures
from tav_core.metrics import MEASURES, SetMeasures
from tav_core.video import read_video, write_video
from tests.clips import caption_of, clip_of, drawing_of
from tests.encoders import make_clip, make_dino
from tests.pages import check_page

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")
SOURCE_PROMPT, PROMPT = caption_of(coat="red").replace(",", ""), caption_of(coat="blue").replace(",", "")


def drawn(colour, num_frames=5, size=128):
    return clip_of(num_frames, coat=colour)[:, :size, :size]


@pytest.fixture
def videos(tmp_path):
    """A source that is longer and wider than its edit."""
    wide = torch.nn.functional.pad(drawn("red", 7), (0, 0, 16, 16))
    write_video(tmp_path / "source.mp4", wide, 8)
    write_video(tmp_path / "edit.mp4", drawn("blue", 7)[:5], 8)
    return tmp_path


def command(*arguments):
    return main(["evaluate", *map(str, arguments)])


def test_figures_of_an_edit_that_preserves_place_and_background():
    source, edit = drawn("red"), drawn("blue")
    covered = drawing_of(5).figure_mask
    figures = evaluate(source, edit, PROMPT, covered=covered).figures
    assert list(figures) == [name for name in MEASURES if name in figures]
    assert figures["background_psnr"] == pytest.approx(100)
    assert 10 < figures["psnr"] < 40
    assert figures["end_point_error"] < 1
    assert figures["flow_cosine"] > 0.5
    assert 0.2 < figures["warp_ratio"] < 5

    same = evaluate(source, source, PROMPT).figures
    assert (same["psnr"], same["ssim"], same["warp_ratio"]) == (100, pytest.approx(1), 1)
    assert (same["end_point_error"], same["flow_cosine"]) == (0, pytest.approx(1, abs=1e-5))


def test_flicker_raises_the_warp_error():
    source, edit = drawn("red"), drawn("blue")
    edit[::2] *= 0.7
    assert evaluate(source, edit, PROMPT).figures["warp_ratio"] > 3


def test_one_edit_on_the_command_line(videos, capsys):
    clip, dino = make_clip(videos / "clip"), make_dino(videos / "dino")
    page = videos / "out" / "report.html"
    prompt = f"{PROMPT} <script>alert('ö')</script>"
    arguments = ("--source", videos / "source.mp4", "--edit", videos / "edit.mp4", "--prompt", prompt)
    weights = ("--clip", clip, "--pickscore", clip, "--dino", dino)
    assert command(*arguments, *weights, "--source-prompt", SOURCE_PROMPT, "--output", page) == 0
    shown = capsys.readouterr().out
    for name in ("psnr", "clip_frame_loveu", "clip_text_v2vbench", "pickscore_loveu", "dino_frame_v2vbench"):
        assert MEASURES[name].label in shown
        assert MEASURES[name].label in page.read_text(encoding="utf-8")
    assert "color-scheme: light dark" in page.read_text(encoding="utf-8"), "a dark browser shows a dark page"
    assert len(re.findall(r'src="data:(video/mp4|image/png);base64,', page.read_text(encoding="utf-8"))) == 2
    assert "http" not in page.read_text(encoding="utf-8")  # nothing is fetched to look at it
    assert "<script>" not in page.read_text(encoding="utf-8")
    (row,) = csv.DictReader(page.with_suffix(".csv").open(encoding="utf-8"))
    assert row["prompt"] == prompt
    assert 5 < float(row["psnr"]) < 40
    assert 0 <= float(row["frame_accuracy"]) <= 1


@pytest.mark.slow
def test_the_pages_are_for_everybody(videos):
    files = "--source", videos / "source.mp4", "--edit", videos / "edit.mp4", "--prompt", PROMPT
    assert command(*files, "--output", videos / "one.html") == 0
    check_page(videos / "one.html")
    (videos / "list.csv").write_text(
        f"source,edit,source_prompt,prompt\nsource.mp4,edit.mp4,{SOURCE_PROMPT},{PROMPT}\n", encoding="utf-8"
    )
    assert command("--dataset", videos / "list.csv", "--output", videos / "all.html") == 0
    check_page(videos / "all.html")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_source_is_cropped_and_sampled_as_the_edit_was(tmp_path, fit):
    wide = torch.cat([drawn("pink"), drawn("blue")], dim=2)
    write_video(tmp_path / "wide.mp4", wide, 8)
    same = read_video(tmp_path / "wide.mp4", width=128, height=128, fit=fit).frames
    write_video(tmp_path / "edit.mp4", same, 8)
    page = tmp_path / "one.html"
    files = "--source", tmp_path / "wide.mp4", "--edit", tmp_path / "edit.mp4", "--prompt", "x"
    assert command(*files, "--fit", fit, "--output", page) == 0
    (row,) = csv.DictReader(page.with_suffix(".csv").open(encoding="utf-8"))
    assert float(row["psnr"]) > 35


class Mean(torch.nn.Module):
    def forward(self, pictures):
        mean = pictures.float().mean((2, 3)) / 255
        return mean, 8 * mean


def test_a_data_set_on_the_command_line(videos, capsys, monkeypatch):
    (videos / "list.csv").write_text(
        "source,edit,source_prompt,prompt\n"
        f"source.mp4,edit.mp4,{SOURCE_PROMPT},{PROMPT}\n"
        f"source.mp4,edit.mp4,{SOURCE_PROMPT},a green dog\n"
        f"edit.mp4,edit.mp4,{PROMPT},{PROMPT}\n"
    )
    pytest.importorskip("torchmetrics")
    monkeypatch.setattr(tav_core.cli.evaluate, "load_inception", lambda weights, device: Mean())
    page = videos / "all.html"
    assert command("--dataset", videos / "list.csv", "--inception", "weights.pth", "--output", page) == 0
    rows = list(csv.DictReader(page.with_suffix(".csv").open(encoding="utf-8")))
    assert [row["prompt"] for row in rows] == [PROMPT, "a green dog", PROMPT]
    assert float(rows[2]["psnr"]) == 100
    shown = capsys.readouterr().out
    mean = np.mean([float(row["psnr"]) for row in rows])
    assert f"{mean:.2f}" in shown
    assert f"{mean:.2f}" in page.read_text(encoding="utf-8")
    assert "FID" in shown
    assert page.read_text(encoding="utf-8").count("<tr><td>source</td>") == 2
    assert "3 edits of 2 videos" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("dataset", ["list.csv", "."])
def test_the_table_of_a_data_set_is_not_overwritten(videos, monkeypatch, capsys, dataset):
    monkeypatch.chdir(videos)
    rows = f"source,edit,source_prompt,prompt\nsource.mp4,edit.mp4,{SOURCE_PROMPT},{PROMPT}\n"
    (videos / "list.csv").write_text(rows)
    assert command("--dataset", dataset, "--output", "list.html") == 1
    assert "would replace list.csv of the data set" in capsys.readouterr().err
    assert (videos / "list.csv").read_text() == rows


def test_a_locked_results_table_does_not_stop_the_evaluation(videos, monkeypatch):
    rows = f"source.mp4,edit.mp4,{SOURCE_PROMPT},{PROMPT}\n" * 2
    (videos / "list.csv").write_text(f"source,edit,source_prompt,prompt\n{rows}")
    write, refused = tav_core.cli.evaluate.write_table, [1, 1]

    def held_twice(path, rows):
        if refused:
            refused.pop()
            raise PermissionError(13, "Permission denied", str(path))
        write(path, rows)

    monkeypatch.setattr(tav_core.cli.evaluate, "write_table", held_twice)
    page = videos / "all.html"
    assert command("--dataset", videos / "list.csv", "--output", page) == 0
    assert page.exists() and len(list(csv.DictReader(page.with_suffix(".csv").open(encoding="utf-8")))) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "source.mp4"], "--dataset for many"),
        (
            ["--source", "source.mp4", "--edit", "edit.mp4", "--prompt", "x", "--dataset", "list.csv"],
            "--dataset for many",
        ),
        (["--source", "missing.mp4", "--edit", "edit.mp4", "--prompt", "x"], "missing.mp4"),
        (["--source", "edit.mp4", "--edit", "source.mp4", "--prompt", "x"], "5"),
        (["--source", "source.mp4", "--edit", "edit.mp4", "--prompt", "x", "--clip", "nowhere"], "no folder nowhere"),
        (["--source", "source.mp4", "--edit", "edit.mp4", "--prompt", "x", "--output", "r.pdf"], "NAME.html"),
        (["--dataset", "nowhere"], "0 CSV"),
        (["--dataset", "short.csv"], "Row 3 of short.csv has no edit and no prompt. Fill it in"),
        (["--dataset", "gbk.csv"], "gbk.csv is not in UTF-8: save it as CSV UTF-8."),
    ],
)
def test_bad_input_is_one_sentence(videos, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(videos)
    rows = "source,edit,source_prompt,prompt\nsource.mp4,edit.mp4,,星\nsource.mp4"
    for name, encoding in (("short.csv", "utf-8"), ("gbk.csv", "gbk")):
        (videos / name).write_text(rows, encoding=encoding)
    assert command(*arguments) == 1
    message = capsys.readouterr().err.strip()
    assert words in message
    assert "\n" not in message
    assert not (videos / "report.html").exists()


def test_means_skip_undefined_values():
    rows = [
        {"psnr": 10.0, "flow_cosine": None},
        {"psnr": 30.0, "flow_cosine": 0.5},
        {"psnr": 20.0, "flow_cosine": None},
    ]
    assert mean_figures(rows) == {"psnr": 20, "flow_cosine": 0.5}
    assert mean_figures(rows[:1]) == {"psnr": 10, "flow_cosine": None}


def test_set_measures_take_clips_of_any_size():
    pytest.importorskip("torchmetrics")
    measures = SetMeasures(Mean())
    measures.add(drawn("red", 12).numpy(), drawn("blue", 11, 64).numpy())
    assert measures.compute()["fid"] > 0


def test_arrays_and_tensors_are_measured_alike_and_8_bits_refused():
    rng = np.random.default_rng(0)
    source, edit = (rng.random((3, 32, 32, 3)).astype(np.float32) for _ in range(2))
    of_arrays = evaluate(source, edit, "a dog").figures
    assert of_arrays == evaluate(torch.from_numpy(source), torch.from_numpy(edit), "a dog").figures
    with pytest.raises(ValueError, match="divide pixels of 8 bits by 255"):
        evaluate((255 * source).astype(np.uint8), (255 * edit).astype(np.uint8), "a dog")
