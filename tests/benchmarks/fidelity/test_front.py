"""Score over seconds, from cells that are made up."""

from pathlib import Path

from benchmarks.fidelity import curve, front, others
from tav_core.models.base import DEMO_MODEL
from tav_core.presets import BUNDLED

RATE = BUNDLED.tuning.learning_rate


def test_only_clips_that_all_have_are_counted(tmp_path: Path) -> None:
    def keep(cells, clips: range, strict: float, tune: float) -> None:
        for clip in clips:
            numbers = dict(strict=strict if clip < 2 else 1.0, loose=1.0, tune_seconds=tune)
            cells.add(dict(clip=clip, kind="coat", seed=0, invert_seconds=3.0, edit_seconds=2.0, **numbers))

    for steps, strict in ((0, 0.25), (10, 0.5)):
        keep(curve.cells_of("published", steps, RATE, DEMO_MODEL, 8, tmp_path), range(3), strict, 4.0 * steps)
    zero = others.TextToVideoZero()
    keep(others.cells_of(zero.lines[0], zero, 8, tmp_path), range(2), 0.75, 0.0)
    lines, points = front.read(8, tmp_path)
    assert [(point.label, point.seconds, point.scores["strict"].mean) for point in lines["published"]] == [
        ("0", 5.0, 25.0),
        ("10", 45.0, 50.0),
    ]
    assert [(point.label, point.seconds, point.scores["strict"].mean) for point in points] == [
        (zero.lines[0], 5.0, 75.0)
    ]
    figure = front.draw(lines, points)
    figure.savefig(tmp_path / "front.png")
    assert [axes.get_title() for axes in figure.axes] == list(front.MEASURES.values())
