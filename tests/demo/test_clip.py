"""The bundled clip is the scene that demo-clip.json names."""

import cv2
import numpy as np

from tav_core.demo import world
from tav_core.demo.clip import bundled_clip
from tav_core.demo.world import motion
from tav_core.models.base import ASSETS, BUNDLED_CLIPS
from tav_core.video import read_video


def test_the_file_shows_the_scene_and_its_caption():
    clip, film = bundled_clip(), read_video(BUNDLED_CLIPS["cartwheel"])
    assert clip.motion in motion.HELD_OUT and clip.scene.motion == clip.motion
    assert clip.caption == world.caption(clip.words) and clip.motion not in clip.caption
    frames, masks = world.draw_frames(clip.scene, clip.words, clip.num_frames)
    assert film.frames.shape == frames.shape == (24, 128, 128, 3) and film.fps == clip.fps
    assert -10 * np.log10(np.square(film.frames.numpy() - frames).mean()) > 32
    stored = cv2.imread(str(ASSETS / "demo-clip-masks.png"), cv2.IMREAD_GRAYSCALE)
    differ = stored.reshape(masks.shape) != masks * np.uint8(255)
    assert differ.mean() < 1e-3, "outlines fall differently in versions of OpenCV"


def test_the_figure_is_whole_and_alone_in_every_frame():
    clip = bundled_clip()
    assert clip.scene.companion is None and clip.scene.in_front is None
    _, masks = world.draw_frames(clip.scene, clip.words, clip.num_frames)
    border = np.ones(masks.shape[1:], bool)
    border[1:-1, 1:-1] = False
    assert not masks[:, border].any() and masks.sum(axis=(1, 2)).min() > 500
