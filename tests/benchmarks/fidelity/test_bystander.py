"""The bystander is drawn, found and measured as the benchmark takes it."""

import numpy as np
import pytest

from benchmarks.fidelity.bystander import bystander, draw_clip_with, draw_with, overlap, prediction_error
from benchmarks.fidelity.clips import draw_clip, random_clip
from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.editor import ClipEditor
from tav_core.models.base import load_model


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_overlap_finds_the_bystander_and_nothing_without_it(seed: int) -> None:
    scenes = random_clip(seed, 6)
    second = bystander(seed, scenes)
    for scene in scenes:
        background = scene.background
        assert overlap(draw_with(second, scene), second, background) > 0.7  # but for anti-aliased edges
        assert overlap(world.draw_background(background), second, background) == 0


def test_judge_reads_the_named_object_next_to_a_bystander() -> None:
    scenes = random_clip(1003, 6)
    second = bystander(1003, scenes)
    assert np.mean([judge.read(draw_with(second, scene)).shows(scene) for scene in scenes]) == 1


def test_prediction_error_is_least_under_the_own_caption_and_without_a_bystander() -> None:
    scenes = random_clip(1003, 2)
    second = bystander(1003, scenes)
    plain, both = draw_clip(scenes), draw_clip_with(second, scenes)
    editor, caption = ClipEditor(load_model(), plain, scenes[0].caption), scenes[0].caption
    own = prediction_error(editor, plain, caption)
    assert own == prediction_error(editor, plain, caption)
    other = next(name for name in world.BACKGROUNDS if name != scenes[0].background)
    assert own < prediction_error(editor, plain, scenes[0].edited(background=other).caption)
    assert own < prediction_error(editor, both, caption)
