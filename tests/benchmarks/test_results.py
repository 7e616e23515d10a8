"""The command line of the benchmarks, and the file that they write."""

import sys
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.__main__ import main, parse
from benchmarks.speed import fits


def test_without_words_the_parts_of_speed_that_need_nothing_else_run() -> None:
    assert parse([]) == ("speed", ["step", "estimate", "fits", "memory", "scaling", "edit", "cold", "store"], [])


def test_named_parts_run_with_the_options_that_follow() -> None:
    assert parse(["speed", "step", "fits", "--frames", "8", "--write"]) == (
        "speed",
        ["step", "fits"],
        ["--frames", "8", "--write"],
    )
    assert parse(["fidelity", "controls", "--clips", "1"]) == ("fidelity", ["controls"], ["--clips", "1"])
    assert parse(["fidelity"])[1] == [part for part in results.PARTS["fidelity"] if part != "others"]


@pytest.mark.parametrize("line", ["speed controls", "fidelity step", "steps", "--help"])
def test_unknown_parts_end_with_the_usage(line: str) -> None:
    with pytest.raises(SystemExit, match="python -m benchmarks speed step fits"):
        parse(line.split())


def test_section_replaces_that_of_its_part_and_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    for kind, part, printed in [
        ("fidelity", "controls", "old"),
        ("speed", "step", "machine\n\n| a |"),
        ("fidelity", "controls", "new"),
    ]:
        results.write(kind, part, results.section(kind, part, [], printed), file)
    text = file.read_text()
    assert text.startswith(results.TITLE) and text.count("## ") == 2 and "old" not in text
    assert text.index("## speed step\n\n`python -m benchmarks speed step`") < text.index("## fidelity controls")
    results.write("speed", "step", results.section("speed", "step", [], "machine\n\n| a |"), file)
    assert file.read_text() == text


def test_commands_are_recorded_without_paths() -> None:
    section = results.section("speed", "published", ["--directory", "/a/b", "--rounds", "3"], "machine")
    assert "`python -m benchmarks speed published --directory DIRECTORY --rounds 3`" in section


@pytest.mark.parametrize(
    ("options", "written"), [([], True), (["--tiny"], False), (["--tiny", "--write"], True), (["--write"], True)]
)
def test_tables_made_with_options_are_written_on_demand_alone(
    options: list[str], written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[tuple[str, str]] = []
    monkeypatch.setattr(sys, "argv", ["benchmarks", "speed", "fits", *options])
    monkeypatch.setattr(fits, "run", lambda given: f"machine {given}")
    monkeypatch.setattr(results, "write", lambda kind, part, section: writes.append((kind, part)))
    main()
    assert writes == [("speed", "fits")] * written
