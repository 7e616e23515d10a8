"""The timing that all benchmarks share."""

from benchmarks import harness


def test_seconds_returned_by_a_run_replace_those_measured_here() -> None:
    taken = iter([9.0, 3.0, 1.0, 2.0])
    seconds = harness.interleaved({"there": lambda: next(taken), "here": lambda: None}, 3, "cpu")
    assert seconds["there"] == 2.0 and seconds["here"] < 1
