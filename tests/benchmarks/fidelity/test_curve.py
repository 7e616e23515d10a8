"""The score over tuning steps, on a clip of two frames and a tuning of two steps."""

from pathlib import Path

import pytest

from benchmarks.fidelity import curve
from benchmarks.fidelity.scenes import bench_clips
from benchmarks.fidelity.ways import WAYS
from tav_core import TuningConfig
from tav_core.models.base import DEMO_MODEL
from tests.benchmarks.fidelity.test_cells import SHORT

CONFIG = TuningConfig(steps=2, learning_rate=1e-2)
MEASURES = ("iou", "figure", "figure_psnr")


@pytest.mark.slow
def test_a_pause_changes_nothing_of_the_steps_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAYS, "published", SHORT)
    (clip,) = bench_clips(1, 2)

    def ends(pauses: set[int]) -> dict[tuple[int, str], list[float]]:
        found = curve.Curve(clip, CONFIG, ["published"], DEMO_MODEL, tmp_path / str(len(pauses))).fill(pauses, None)
        return {(cell["steps"], cell["kind"]): [cell[name] for name in MEASURES] for cell in found}

    paused, straight = ends({0, 1, 2}), ends({2})
    assert len(paused) == 9 and len(straight) == 3
    assert all(paused[place] == measures for place, measures in straight.items())
    assert paused[0, "coat"] != paused[2, "coat"]
    kept = curve.cells_of("published", 2, 1e-2, DEMO_MODEL, 2, tmp_path / "3")
    assert all(cell["tune_seconds"] > 0 and cell["invert_seconds"] > 0 for cell in kept)
    assert curve.row([cell | {"joints": 0.0} for cell in kept])[-1] == "1"
    again = curve.Curve(clip, CONFIG, ["published"], DEMO_MODEL, tmp_path / "3").fill({0, 1, 2}, None)
    assert list(again) == []
