"""A motion from several clips: the clips, the joint error, and the cells, on clips of two frames and one update."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fidelity import motion
from benchmarks.fidelity.cells import Cells
from benchmarks.fidelity.motion import MotionClips, joints_of, motion_error
from bundled_model.reader import READER, load_reader
from tav_core import SamplingConfig, TuningConfig
from tav_core.demo.world import draw, draw_frames
from tav_core.demo.world.motion import HELD_OUT
from tav_core.demo.world.skeleton import HIP
from tav_core.models.base import DEMO_MODEL


@pytest.mark.parametrize("name", HELD_OUT)
def test_clips_share_the_motion_and_nothing_else(name: str) -> None:
    clips = MotionClips.of(name)
    assert clips == MotionClips.of(name)
    assert {scene.motion for scene in clips.scenes} == {name} and len(clips.scenes) == 4
    for kind in ("coat", "place"):
        assert len({*(words[kind] for words in clips.words), clips.asked[kind]}) == 5
    assert len({scene.phase for scene in clips.scenes}) == 4


def test_joints_are_those_that_the_world_draws() -> None:
    clips = MotionClips.of("cartwheel")
    drawn = draw(clips.scenes[0], clips.words[0], 3).joints
    ours = joints_of(clips.scenes[0], clips.words[0], 3)
    assert np.allclose(drawn - drawn[:, HIP : HIP + 1], ours, atol=0.5)


def test_error_is_free_in_phase_side_size_and_place_and_not_in_the_motion() -> None:
    clips = MotionClips.of("cartwheel")
    scene, words = clips.scenes[0], clips.words[0]
    other = joints_of(replace(scene, phase=5 / 24, direction=-scene.direction), words, 8)
    assert motion_error(1.2 * other + 30, scene, words) < 1e-6
    walking = joints_of(replace(scene, motion=None), words | {"action": "walk"}, 8)
    assert motion_error(walking, scene, words) > 5


def test_true_motion_is_found_and_a_clip_that_was_tuned_on_leaks() -> None:
    reader, clips = load_reader(READER), MotionClips.of("crawl")
    right, _ = draw_frames(clips.scenes[1], clips.asked, 4)
    copied, _ = draw_frames(clips.scenes[1], clips.words[1], 4)
    good, bad = (motion.measure(frames, clips, clips.asked, 4, reader) for frames in (right, copied))
    assert good["words"] > 0.9 and (good["coat"], good["place"]) == (0, 0)
    assert bad["words"] < 0.5 and (bad["coat"], bad["place"]) == (1, 1)
    alone = motion.measure(copied, clips, clips.asked, 1, reader)
    assert (alone["coat"], alone["place"]) == (0, 0), "it is not that of the one clip"


@pytest.mark.slow
def test_a_run_goes_on_where_another_stopped(tmp_path: Path) -> None:
    name, way = "4 clips, debiased", motion.way_of("4 clips, debiased", 1)
    assert way.tuning is not None and way.tuning.clips_in_turn and way.tuning.loss == "debiased"
    way = replace(way, tuning=TuningConfig(1, clips_in_turn=True), sampling=SamplingConfig(2, 1.0))
    cells, reader = Cells("motion", way, DEMO_MODEL, 2, tmp_path), load_reader(READER)

    def filled(figures: list[str]) -> list[str]:
        found = motion.fill(name, "crawl", figures, [0], reader, cells, way)
        return [cell["kind"] for cell in found]

    assert filled(["person"]) == ["person"] and filled(["person", "dog"]) == ["dog"] and filled(["dog"]) == []
    again = list(Cells("motion", way, DEMO_MODEL, 2, tmp_path))
    table = motion.tables({name: again, "4 clips": again}, ["person", "dog"])
    assert "4 clips, debiased - 4 clips" in table and "0.00 (0.00 to 0.00)" in table
