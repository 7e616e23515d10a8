"""Each part runs on a small job and makes a table."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.fidelity import demo_model


def test_bundled_model_is_measured() -> None:
    options = demo_model.options_of(["--prompts", "2", "--scenes", "1", "--num-inference-steps", "5"])
    figures = demo_model.measure(options)
    assert options.prompts == 2 and figures["mean"] > 35
    assert set(figures) == {"mean", "worst", "shape", "colour", "background", "all"}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("edits", ["--ablation-clips", "1"]),
        ("preservation", ["--all-variants", "1"]),
        ("bystander", ["--variants", "no tuning"]),
        ("inversion", []),
    ],
)
def test_part_makes_a_table(part: str, options: list[str], tmp_path: Path) -> None:
    small = ["--clips=1", "--num-frames=2", "--tuning-steps=1", "--num-inference-steps=5", "--processes=1"]
    printed = import_module(f"benchmarks.fidelity.{part}").run([*options, *small, f"--output={tmp_path}"])
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) > 2 and len({line.count("|") for line in table}) == 1
