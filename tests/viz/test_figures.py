"""Figures and captions."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from matplotlib import font_manager

from tav_core.viz.captions import caption_strip, drawable
from tav_core.viz.figures import contact_sheet, save_curves, save_loss_plot, save_picture, side_by_side


def clip(level, frames=5):
    return torch.full((frames, 32, 48, 3), level)


def test_side_by_side_keeps_every_pixel_of_every_clip():
    shown = side_by_side(
        {"one": clip(0.111), "two": clip(0.222), "three": clip(0.333), "four": clip(0.444)}, columns=3, enlarge=2
    )
    assert shown.shape[0] == 5
    assert shown.shape[2] == 3 * 96
    for level in (0.111, 0.222, 0.333, 0.444):
        assert (shown[0] == level).all(-1).sum() == 64 * 96


def test_captions_are_drawn_and_long_ones_wrap():
    short = side_by_side({"a": clip(1.0)}, columns=1)
    long = side_by_side({"many words that need several lines in so narrow a picture": clip(1.0)}, columns=1)
    assert (short < 0.5).any()
    assert long.shape[1] > short.shape[1]


def test_contact_sheet_shows_first_and_last_frame():
    frames = torch.linspace(0, 1, 30)[:, None, None, None].expand(30, 32, 48, 3)
    sheet = contact_sheet({"x": frames}, num_frames=4)
    assert sheet.shape[1] == 4 * 48
    assert sheet[-1, 0, 0] == 0
    assert sheet[-1, -1, 0] == 1


def test_saved_picture_has_its_colours(tmp_path):
    picture = torch.zeros(4, 6, 3)
    picture[..., 0] = 1  # red
    save_picture(tmp_path / "größe.png", picture)
    read = cv2.imdecode(
        torch.frombuffer(bytearray((tmp_path / "größe.png").read_bytes()), dtype=torch.uint8).numpy(), cv2.IMREAD_COLOR
    )
    assert read.shape == (4, 6, 3)
    assert read[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("losses", [[0.1], [0.2] * 3, [1 / (i + 1) for i in range(100)]])
def test_loss_plot_of_short_and_flat_runs(tmp_path, losses):
    save_loss_plot(tmp_path / "loss.png", losses)
    image = cv2.imread(str(tmp_path / "loss.png"))
    assert image.std() > 0


def test_curves_are_drawn_in_a_panel_each_with_gaps_where_undefined(tmp_path):
    heights = []
    for count in (1, 3):
        curves = {f"measure {i}": {"source": np.arange(4.0), "edit": np.array([1, np.nan, 2])} for i in range(count)}
        save_curves(tmp_path / "curves.png", curves)
        heights.append(cv2.imread(str(tmp_path / "curves.png")).shape[0])
    assert heights[1] == 3 * heights[0]


def test_captions_of_different_lengths_stand_side_by_side():
    clips = {"a": clip(0.111), "so many words that they need several lines in a narrow picture": clip(0.222)}
    shown = side_by_side(clips, columns=2, enlarge=1)
    assert (shown[0, -32:, :48] == 0.111).all() and (shown[0, -32:, 48:] == 0.222).all()


def test_a_caption_is_drawn_in_its_own_script():
    latin, greek = caption_strip("pink star", 200), caption_strip("κόκκινο αστέρι — étoile, größe, звезда", 400)
    assert (latin < 128).any() and (greek < 128).any()


def test_letters_that_no_font_has_are_dropped(monkeypatch):
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    drawable.cache_clear()
    unheard = "\U000e0041\u4e00\u661f star"  # a tag, which no font draws, and Chinese
    _, text = drawable(unheard)
    drawable.cache_clear()
    assert text == " star"


def test_a_placeholder_font_is_not_used():
    assert (
        drawable("\U000e0fff\uffff star")[1] == " star"
    )  # with all fonts that are here; no letters have these numbers


def test_a_font_with_all_letters_is_preferred(monkeypatch):
    default = font_manager.findfont("DejaVu Sans")
    letters = {default: frozenset("abc"), "/a.ttf": frozenset("一"), "/b.ttf": frozenset("一二c")}
    monkeypatch.setattr("tav_core.viz.captions._characters", letters.__getitem__)
    fonts = [SimpleNamespace(fname=path, name="Any") for path in sorted(letters)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    drawable.cache_clear()
    assert [drawable(text) for text in ("a b", "一 二", "a二")] == [
        (default, "a b"),
        ("/b.ttf", "一 二"),
        (default, "a"),
    ]
    drawable.cache_clear()


def test_a_word_wider_than_the_picture_wraps():
    assert len(caption_strip("m" * 60, 120)) > len(caption_strip("m", 120))
