"""Edges and lines drawn from a clip."""

import cv2
import numpy as np
import pytest
import torch

from tav_core import draw_hints
from tav_core.video.hints import canny, lineart


def picture(line: float, ground: float = 0.8) -> torch.Tensor:
    """A vertical line of two pixels, (1, 32, 48, 3)."""
    frame = torch.full((1, 32, 48, 3), ground)
    frame[:, :, 23:25] = line
    return frame


def test_canny_is_opencvs() -> None:
    frames = torch.rand(2, 40, 56, 3, generator=torch.Generator().manual_seed(0))
    drawn = canny(frames, 50, 120)
    for frame, hint in zip(frames, drawn, strict=True):
        expected = cv2.Canny((frame.numpy() * 255).round().astype(np.uint8), 50, 120) / 255
        assert np.array_equal(hint.numpy(), np.repeat(expected[..., None], 3, axis=2).astype(np.float32))
    assert 0 < drawn.mean() < 1


@pytest.mark.parametrize("kind", ["canny", "lineart"])
def test_a_line_is_white_on_black(kind: str) -> None:
    hint = draw_hints(kind, picture(0.1))
    assert hint.shape == (1, 32, 48, 3) and hint.min() >= 0 and hint.max() <= 1
    assert hint[0, 16, 21:27].max() > 0.45
    assert not hint[0, :, :10].any()


def test_lines_are_dark_and_their_strength_is_the_frames_own() -> None:
    assert not lineart(picture(1.0))[0, :, 23:25].any(), "brighter than around it"
    faint, strong = (float(lineart(picture(0.8 - depth))[0, 16, 23:25].max()) for depth in (0.2, 0.7))
    assert abs(faint - strong) < 0.1
    assert not lineart(torch.full((1, 16, 16, 3), 0.5)).any(), "an empty frame has no lines"


@pytest.mark.parametrize(
    ("kind", "frames", "message"),
    [
        ("depth", picture(0.1), "hint must be one of"),
        ("canny", torch.rand(3, 32, 32), r"frames are \(f, height, width, 3\)"),
        ("canny", "clip.mp4", "frames must be a torch.Tensor"),
    ],
)
def test_bad_input_is_refused(kind: str, frames: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        draw_hints(kind, frames)


@pytest.mark.parametrize("kind", ["canny", "lineart"])
def test_frames_of_another_range_are_refused(kind: str) -> None:
    """They would all be white, and have no edges."""
    with pytest.raises(ValueError, match=r"frames must lie in \[0, 1\]"):
        draw_hints(kind, 255 * torch.rand(1, 16, 16, 3))
