"""The bundled clips are the scenes that the files beside them name."""

import cv2
import numpy as np
import pytest

from tav_core.demo import world
from tav_core.demo.clip import bundled_clip
from tav_core.demo.world import motion
from tav_core.models.base import ASSETS, BUNDLED_CLIPS
from tav_core.video import read_video


@pytest.mark.parametrize("name", BUNDLED_CLIPS)
def test_the_file_shows_the_scene_and_its_caption(name):
    clip, film = bundled_clip(name), read_video(BUNDLED_CLIPS[name])
    assert clip.motion in motion.HELD_OUT and clip.scene.motion == clip.motion
    assert clip.caption == world.caption(clip.words) and clip.motion not in clip.caption
    frames, _ = world.draw_frames(clip.scene, clip.words, clip.num_frames)
    assert film.frames.shape == frames.shape == (24, 128, 128, 3) and film.fps == clip.fps
    assert -10 * np.log10(np.square(film.frames.numpy() - frames).mean()) > 32


def test_masks_are_those_of_the_first_clip():
    clip = bundled_clip()
    _, masks = world.draw_frames(clip.scene, clip.words, clip.num_frames)
    stored = cv2.imread(str(ASSETS / "demo-clip-masks.png"), cv2.IMREAD_GRAYSCALE)
    differ = stored.reshape(masks.shape) != masks * np.uint8(255)
    assert differ.mean() < 1e-3, "outlines fall differently in versions of OpenCV"


def test_clips_show_one_motion_to_one_side_in_other_coats_and_places():
    first, second = map(bundled_clip, BUNDLED_CLIPS)
    assert first.motion == second.motion and first.scene.direction == second.scene.direction
    assert (first.num_frames, first.fps) == (second.num_frames, second.fps)
    assert first.words["coat"] != second.words["coat"] and first.words["place"] != second.words["place"]


@pytest.mark.parametrize("name", BUNDLED_CLIPS)
def test_the_figure_is_whole_and_alone_in_every_frame(name):
    clip = bundled_clip(name)
    assert clip.scene.companion is None and clip.scene.in_front is None
    _, masks = world.draw_frames(clip.scene, clip.words, clip.num_frames)
    border = np.ones(masks.shape[1:], bool)
    border[1:-1, 1:-1] = False
    assert not masks[:, border].any() and masks.sum(axis=(1, 2)).min() > 500
