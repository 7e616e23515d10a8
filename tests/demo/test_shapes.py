"""The drawn world, and the judge that reads its pictures."""

import cv2
import numpy as np
import pytest

from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.demo.run import score_edit


def scenes(count, seed=3):
    rng = np.random.default_rng(seed)
    return [world.random_scene(rng) for _ in range(count)]


def degraded(picture, seed):
    """What an autoencoder does to a picture: soft edges and a little noise."""
    noise = np.random.default_rng(seed).normal(0, 0.02, picture.shape)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 1.5) + noise, 0, 1).astype(np.float32)


def test_pictures_and_masks_agree():
    for scene in scenes(20):
        picture, mask = world.draw(scene)
        assert picture.shape == (128, 128, 3)
        assert picture.dtype == np.float32
        inside, outside = mask == 1, mask == 0
        assert np.ptp(picture[inside] - np.array(world.COLOURS[scene.colour]) / 255) < 1e-6
        np.testing.assert_array_equal(picture[outside], world.draw_background(scene.background)[outside])


@pytest.mark.parametrize("shape", world.SHAPES)
def test_centre_of_area_is_the_position(shape):
    mask = world.draw_mask(shape, 60.3, 70.8, 24.0)
    rows, columns = np.mgrid[0:128, 0:128] + 0.5
    assert abs((mask * columns).sum() / mask.sum() - 60.3) < 0.05
    assert abs((mask * rows).sum() / mask.sum() - 70.8) < 0.05


def test_objects_and_paths_stay_inside():
    rng = np.random.default_rng(0)
    for scene in scenes(50):
        for step in world.moving(scene, world.random_path(rng, 16, scene.radius)):
            mask = world.draw_mask(step.shape, step.x, step.y, step.radius)
            assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) == 0


def test_captions():
    assert world.caption("ring", "orange", "wavy") == "an orange ring on a wavy background"
    assert (
        world.Scene("star", "red", "navy", 0, 0, 20).edited(colour="blue").caption == "a blue star on a navy background"
    )


def test_judge_reads_clean_and_degraded_pictures():
    for index, scene in enumerate(scenes(150)):
        picture, _ = world.draw(scene)
        for shown in (picture, degraded(picture, index)):
            reading = judge.read(shown)
            assert reading.shows(scene), (scene, reading)
            assert reading.distance(scene) < 1


@pytest.mark.parametrize("word", ["shape", "colour", "background"])
def test_judge_rejects_each_wrong_word(word):
    other = {"shape": world.SHAPES, "colour": tuple(world.COLOURS), "background": tuple(world.BACKGROUNDS)}[word]
    for scene in scenes(30):
        wrong = scene.edited(**{word: next(w for w in other if w != getattr(scene, word))})
        reading = judge.read(degraded(world.draw(wrong)[0], 0))
        assert not reading.shows(scene)
        assert getattr(reading, word) == getattr(wrong, word)


def test_judge_finds_no_object_on_an_empty_background_and_no_words_in_noise():
    for name in world.BACKGROUNDS:
        reading = judge.read(world.draw_background(name))
        assert (reading.shape, reading.colour, reading.background, reading.x) == (None, None, name, None)
    noise = np.random.default_rng(0).random((128, 128, 3)).astype(np.float32)
    assert judge.read(noise).shape is None
    assert judge.read(noise).background is None


def test_judge_does_not_merge_two_objects():
    first, second = (world.Scene("circle", "red", "grey", x, 64, 20) for x in (30, 98))
    both = np.maximum(world.draw(first)[1], world.draw(second)[1])[..., None]
    ink = np.array(world.COLOURS["red"], dtype=np.float32) / 255
    assert judge.read(world.draw_background("grey") * (1 - both) + ink * both).shape is None


def test_judge_raises_for_other_sizes():
    with pytest.raises(ValueError, match="128 x 128"):
        judge.read(np.zeros((64, 64, 3), dtype=np.float32))


def test_scores_of_a_perfect_and_of_a_displaced_edit():
    scene = scenes(1)[0].edited(background="grey", colour="red")
    truth = world.moving(scene, np.linspace((50, 50), (80, 60), 5))
    source = np.stack([world.draw(s)[0] for s in truth])
    perfect = np.stack([world.draw(s.edited(colour="blue"))[0] for s in truth])
    score = score_edit(perfect, source, truth, {"colour": "blue"})
    assert score.success == 1
    assert score.position_error < 0.5
    assert score.background_psnr == pytest.approx(100)
    assert score.size_jitter < 0.02
    still = np.stack([perfect[0]] * 5)
    displaced = score_edit(still, source, truth, {"colour": "blue"})
    assert displaced.success == 1
    assert displaced.position_error == pytest.approx(np.hypot(15, 5), abs=0.5)
    assert displaced.background_psnr < 30
    assert score_edit(source, source, truth, {"colour": "blue"}).success == 0
    assert score_edit(source, source, truth, {"background": "maroon"}).background_psnr is None
