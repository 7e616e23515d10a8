"""Windows of a long clip."""

from itertools import pairwise

import pytest
import torch

from tav_core.editing.windows import Window, windows_of


@pytest.mark.parametrize(
    ("frames", "length", "overlap"), [(64, 16, 4), (17, 16, 4), (16, 16, 4), (9, 2, 1), (30, 7, 0)]
)
def test_windows_cover_each_frame_and_end_with_the_clip(frames: int, length: int, overlap: int) -> None:
    windows = windows_of(frames, length, overlap)
    assert {frame for window in windows for frame in window.frames} == set(range(frames))
    assert windows[-1].frames[-1] == frames - 1
    assert all(window.length == min(length, frames) for window in windows)
    steps = [after.start - window.start for window, after in pairwise(windows)]
    assert all(step == length - overlap for step in steps[:-1])
    assert all(0 < step <= length - overlap for step in steps[-1:])


def test_window_is_led_by_the_first_frame_and_the_one_before_it() -> None:
    assert Window(0, 3).seen == [0, 1, 2]
    assert Window(1, 3).seen == [0, 1, 2, 3]
    assert Window(5, 3).seen == [0, 4, 5, 6, 7]
    assert Window(5, 3).leads == [0, 4]


@pytest.mark.parametrize(("length", "weights"), [(4, [1, 2, 2, 1]), (5, [1, 2, 3, 2, 1]), (1, [1])])
def test_weights_fall_towards_the_ends(length: int, weights: list[int]) -> None:
    assert torch.equal(Window(0, length).weights, torch.tensor(weights).float())


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (4, 4), (4, -1), (4.0, 1), (True, 0)])
def test_sizes_that_make_no_windows_are_refused(length: int, overlap: int) -> None:
    with pytest.raises((TypeError, ValueError)):
        windows_of(10, length, overlap)
