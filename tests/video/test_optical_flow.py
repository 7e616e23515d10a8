"""Points followed from frame to frame: where they get to, which are lost, how far it reaches."""

import cv2
import numpy as np

from tav_core.video.optical_flow import REACH, track

INNER = slice(24, -24)


def moving_texture(step: tuple[int, int], num_frames: int, size: int = 96) -> np.ndarray:
    """A smooth texture that moves by `step` = (right, down) whole pixels a frame: (f, size, size), uint8."""
    noise = np.random.default_rng(0).random((size + 120, size + 120)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    starts = [(60 - step[0] * i, 60 - step[1] * i) for i in range(num_frames)]
    return np.stack([texture[y : y + size, x : x + size] for x, y in starts])


def test_points_are_followed_over_several_frames_both_ways() -> None:
    step = np.float32([3, -2])
    for i, near in enumerate(track(moving_texture((3, -2), 5), 1.0)):
        assert [other.index for other in near] == [0, 1, 2, 3, 4]
        here = near[i].points
        for other in near:
            moved = (other.points - here)[INNER, INNER]
            assert np.abs(moved - step * (other.index - i)).mean() < 0.2, (i, other.index)
            assert other.visible[INNER, INNER].mean() > 0.99


def test_a_frame_sees_all_of_itself() -> None:
    itself = next(track(moving_texture((2, 1), 2, 64), 0.5))[0]
    assert itself.visible.all()
    y, x = np.mgrid[:64, :64]
    np.testing.assert_array_equal(itself.points, np.stack([x, y], -1))


def test_what_leaves_the_picture_is_lost() -> None:
    first = next(track(moving_texture((4, 0), 6), 1.0))
    assert first[5].visible[:, :60].mean() > 0.95
    assert first[5].visible[:, -12:].mean() < 0.2  # 20 pixels to the right it is outside


def test_it_reaches_so_many_frames() -> None:
    count = REACH + 3
    reached = [[other.index for other in near] for near in track(np.zeros((count, 16, 16), np.uint8), 1.0)]
    assert reached[0] == list(range(REACH + 1))
    assert reached[-1] == list(range(2, count))
    assert next(track(np.zeros((1, 16, 16), np.uint8), 1.0))[0].index == 0
