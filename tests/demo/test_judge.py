"""The judge of pixels calls right frames right and wrong ones wrong."""

from dataclasses import replace

import numpy as np
import pytest

from tav_core.demo import world
from tav_core.demo.judge import LOOSE, STRICT, differ, edit_kind, judge, make_truth
from tav_core.demo.world.colour import lab_difference, to_lab

EDITS = {
    "coat": {"coat": "blue"},
    "figure": {"figure": "crab"},
    "place": {"place": "moon"},
    "style": {"style": "ink"},
    "coat and place": {"coat": "pink", "place": "park"},
}
WORDS = {"figure": "dog", "coat": "red", "action": "run", "place": "beach", "style": "flat"}
FRAMES = 4

# Sharma, Wu and Dalal (2005), table 1: L*, a*, b* of both colours, and their difference.
SHARMA = np.array(
    [
        [50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425],
        [50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615],
        [50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412],
        [50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669],
        [50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461],
        [50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065],
        [50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492],
        [50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977],
        [50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030],
        [50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000],
        [60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644],
        [63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630],
        [61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731],
        [35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645],
        [22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373],
        [36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146],
        [90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441],
        [90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381],
        [6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377],
        [2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082],
    ]
)


@pytest.fixture(scope="module")
def scene():
    return replace(world.random_scene(7, held_out=True)[0], companion=None, in_front=None)


@pytest.fixture(scope="module")
def source(scene):
    return world.draw(scene, WORDS, FRAMES)


@pytest.fixture(scope="module", params=EDITS, ids=lambda kind: kind.replace(" ", "_"))
def truth(request, scene, source):
    return make_truth(source, world.draw(scene, WORDS | EDITS[request.param], FRAMES))


def test_ciede2000_gives_all_published_values():
    first, second = SHARMA[:, :3], SHARMA[:, 3:6]
    np.testing.assert_allclose(lab_difference(first, second), SHARMA[:, 6], atol=1e-4)
    np.testing.assert_allclose(lab_difference(second, first), SHARMA[:, 6], atol=1e-4)


def test_colours_near_in_lab_are_left_out_for_good_reason():
    """No two colours within SURELY_ALIKE come out as different without that short cut."""
    rng = np.random.default_rng(0)
    first = to_lab(rng.random((200_000, 3)))
    second = first + rng.normal(0, 5, first.shape)
    np.testing.assert_array_equal(differ(first, second), lab_difference(first, second) > 12)
    ratio = lab_difference(first, second) / np.linalg.norm(first - second, axis=1)
    assert ratio.max() < 2.1


def test_lab_of_known_colours():
    """White, and the red primary as CSS Color 4 converts it, both under D65."""
    np.testing.assert_allclose(
        to_lab(np.array([[1.0, 1, 1], [1, 0, 0]])), [[100, 0, 0], [53.24, 80.09, 67.20]], atol=0.02
    )


def test_the_true_edit_is_right(truth):
    scores = judge(truth.frames, truth)
    assert scores.strict.all()
    for measure in (scores.iou, scores.figure, scores.rest, scores.changed):
        np.testing.assert_array_equal(measure, 1)
    assert scores.figure_psnr.min() == scores.rest_psnr.min() == 99
    np.testing.assert_array_equal(scores.flicker, scores.true_flicker)


def test_the_source_unedited_is_wrong(source, truth):
    scores = judge(source.frames, truth)
    np.testing.assert_array_equal(scores.changed, 0)
    assert not scores.loose.any()


@pytest.mark.parametrize("wrong", [{"coat": "green"}, {"place": "city"}], ids=["coat", "place"])
def test_another_coat_or_place_is_wrong(wrong, request, scene, truth):
    words = WORDS | EDITS[request.node.callspec.params["truth"]]
    assert not judge(world.draw_frames(scene, words | wrong, FRAMES)[0], truth).strict.any()


def test_another_clip_under_the_same_words_is_wrong(request, truth):
    other, words = world.random_scene(8)[0], WORDS | EDITS[request.node.callspec.params["truth"]]
    assert not judge(world.draw_frames(other, words, FRAMES)[0], truth).strict.any()


def test_the_true_edit_moved_by_three_pixels_is_worse(truth):
    """A compact figure in another place still passes: nothing but its outline tells that it has moved."""
    moved = np.pad(truth.frames, ((0, 0), (0, 0), (3, 0), (0, 0)), "edge")[:, :, :-3]
    scores = judge(moved, truth)
    assert scores.iou.max() < 0.92 and scores.figure.max() < 0.9
    if truth.determined.all():
        assert not scores.strict.any()


def test_another_layout_is_right_in_an_edit_of_the_place_alone(request, scene, truth):
    kind = request.node.callspec.params["truth"]
    frames = world.draw_frames(replace(scene, layout=1), WORDS | EDITS[kind], FRAMES)[0]
    assert judge(frames, truth).strict.all() == ("place" in kind)


def test_all_pixels_are_judged_where_the_place_stays(request, truth):
    assert truth.determined.all() == ("place" not in request.node.callspec.params["truth"])


def test_the_figure_is_found_where_it_is_drawn(truth):
    agree = (truth.figure & truth.figure_mask).sum() / (truth.figure | truth.figure_mask).sum()
    assert agree > 0.85
    assert truth.near[truth.figure_mask].all()
    assert not judge(np.full_like(truth.frames, 0.5), truth).loose.any()


def test_noise_flickers_more_than_the_true_edit(truth):
    noise = np.random.default_rng(0).normal(0, 0.05, truth.frames.shape)
    scores = judge(np.clip(truth.frames + noise, 0, 1), truth)
    assert (scores.flicker > scores.true_flicker + 0.03).all()
    assert scores.true_flicker.max() < 0.03
    assert scores.figure_psnr.mean() == pytest.approx(26, abs=1)


def test_frames_fail_where_one_measure_fails(truth):
    scores = judge(truth.frames, truth)
    for measure in ("iou", "figure", "rest", "changed"):
        for thresholds, right in ((STRICT, scores.strict), (LOOSE, scores.loose)):
            below = np.full(FRAMES, getattr(thresholds, measure) - 1e-6)
            assert right.all() and not replace(scores, **{measure: below}).reaches(thresholds).any()


def test_the_kind_of_an_edit_names_the_words_that_it_changes():
    for kind, changes in EDITS.items():
        assert edit_kind(WORDS, WORDS | changes) == kind


def test_other_scenes_and_lengths_are_refused(scene, source, truth):
    with pytest.raises(ValueError, match="same scene"):
        make_truth(source, world.draw(replace(scene, x=60.0), WORDS, FRAMES))
    with pytest.raises(ValueError, match="same scene"):
        make_truth(source, world.draw(scene, WORDS, 1))
    with pytest.raises(ValueError, match="shape"):
        judge(truth.frames[:1], truth)
