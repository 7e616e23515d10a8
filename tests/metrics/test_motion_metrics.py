"""Flow, warp error and the agreement of motion, on clips whose motion is known."""

import cv2
import numpy as np
import pytest

from tav_core.metrics import Motion, end_point_error, estimate_motion, flow_cosine, warp_error


def moving_clip(step, num_frames=4, size=64, seed=0):
    """A smooth texture that moves by `step` = (right, down) whole pixels a frame."""
    noise = np.random.default_rng(seed).random((size + 40, size + 40, 3)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 1, cv2.NORM_MINMAX)
    starts = [(20 - step[0] * i, 20 - step[1] * i) for i in range(num_frames)]
    return np.stack([texture[y : y + size, x : x + size] for x, y in starts])


def known(step, num_frames=4, size=64):
    return np.broadcast_to(np.float32(step), (num_frames - 1, size, size, 2))


def test_flow_of_a_translation():
    motion = estimate_motion(moving_clip((3, -2)))
    inner = motion.flow[:, 12:-12, 12:-12]
    assert np.abs(inner - np.float32((3, -2))).mean() < 0.1
    assert motion.visible[:, 12:-12, 12:-12].mean() > 0.99
    assert not motion.visible[:, 20:-20, -2:].any()  # leaves the picture on the right
    assert not motion.visible[:, :1, 20:-20].any()  # and at the top


def test_a_still_clip_has_no_warp_error():
    still = moving_clip((0, 0))
    motion = estimate_motion(still)
    assert np.abs(motion.flow).max() < 0.15  # Farneback strays a little at the border
    assert motion.visible.all()
    np.testing.assert_allclose(warp_error(still, motion), 0, atol=1e-6)
    exact = Motion(np.zeros_like(motion.flow), motion.visible)
    np.testing.assert_array_equal(warp_error(still, exact), 0)


def test_a_translation_has_no_warp_error_away_from_the_border():
    frames = moving_clip((2, 1))
    inside = np.zeros((3, 64, 64), dtype=bool)
    inside[:, 4:-4, 4:-4] = True
    np.testing.assert_allclose(warp_error(frames, Motion(known((2, 1)), inside)), 0, atol=1e-12)
    assert warp_error(frames, estimate_motion(frames)).max() < 1e-4
    assert warp_error(frames, Motion(known((0, 0)), inside)).min() > 1e-3


def test_warp_error_by_hand():
    frames = np.zeros((3, 12, 12, 3), np.float32)
    frames[1] = 0.5  # flickers: squared difference 0.25 both ways
    visible = np.ones((2, 12, 12), dtype=bool)
    visible[1] = False
    errors = warp_error(frames, Motion(known((0, 0), 3, 12), visible))
    assert errors[0] == pytest.approx(0.25)
    assert np.isnan(errors[1])


def test_disoccluded_pixels_are_not_counted():
    background = moving_clip((0, 0), num_frames=2, size=96)
    patch = moving_clip((0, 0), num_frames=1, size=32, seed=5)[0]
    for frame, x in zip(background, (20, 28), strict=True):
        frame[32:64, x : x + 32] = patch
    motion = estimate_motion(background)
    assert motion.visible[0, 36:60, 28:44].mean() > 0.9  # the patch itself
    assert motion.visible[0, 36:60, 54:58].mean() < 0.8  # what it will cover, as far as the flow can tell


def test_end_point_error_by_hand():
    np.testing.assert_allclose(end_point_error(known((3, 0)), known((0, 4))), [5, 5, 5])
    np.testing.assert_allclose(end_point_error(known((3, 1)), known((3, 1))), 0)


def test_flow_cosine_by_hand():
    flow = known((2, 0)).copy()
    assert flow_cosine(flow, known((5, 0))) == pytest.approx(1)
    assert flow_cosine(flow, known((0, 2))) == pytest.approx(0)
    assert flow_cosine(flow, known((-1, 0))) == pytest.approx(-1)
    source = known((1, 0)).copy()
    source[:, :32] = (0.1, 0.1)  # does not move, so it is not asked
    flow[:, :32] = (0, 9)
    assert flow_cosine(flow, source) == pytest.approx(1)
    flow[:, 32:48] = 0  # half of what should move stands still
    assert flow_cosine(flow, source) == pytest.approx(0.5)
    assert flow_cosine(flow, known((0.1, 0))) is None


def test_motion_that_agrees_and_motion_that_does_not():
    source, same, other = (
        estimate_motion(moving_clip(step, seed=seed)) for step, seed in (((3, 0), 0), ((3, 0), 1), ((-3, 0), 1))
    )
    assert flow_cosine(same.flow, source.flow) > 0.9
    assert flow_cosine(other.flow, source.flow) < -0.9
    assert end_point_error(same.flow, source.flow).mean() < 1 < end_point_error(other.flow, source.flow).mean()


def test_bad_input_raises():
    with pytest.raises(ValueError, match="two frames"):
        estimate_motion(moving_clip((1, 0), num_frames=1))
    with pytest.raises(ValueError, match="same frames"):
        warp_error(moving_clip((1, 0)), estimate_motion(moving_clip((1, 0), num_frames=3)))


@pytest.mark.parametrize("measure", [end_point_error, flow_cosine])
def test_flows_of_another_shape_are_refused(measure) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="give one shape"):
        measure(np.ones((1, 4, 4, 2)), np.ones((3, 4, 4, 2)))


def test_pixels_of_8_bits_are_refused() -> None:
    """They would all be white, and nothing would move."""
    clip = moving_clip((3, -2))
    for call in (lambda c: estimate_motion(c), lambda c: warp_error(c, estimate_motion(clip))):
        call(clip)
        for pixels in ((255 * clip).astype(np.uint8), 255 * clip):
            with pytest.raises(ValueError, match="divide pixels of 8 bits by 255"):
                call(pixels)
