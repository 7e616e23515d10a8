"""Each part runs on a small model and makes a table."""

from importlib import import_module

import pytest

from benchmarks.speed import unet

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("part", "options", "rows"),
    [
        ("step", "--tiny --latent 16 --frames 2 --rounds 1", 4),
        ("scaling", "--tiny --latent 16 --frames 1 2 --rounds 1", 2),
        ("fits", "--tiny --pixels 128 --frames 1 2", 2),
        ("edit", "--num-frames 2 --tuning-steps 1 --num-inference-steps 2", 4),
        ("cold", "--tiny --rounds 1", 3),
        ("store", "--steps 1 --num-frames 1", 3),
    ],
)
def test_part_makes_a_table(part: str, options: str, rows: int) -> None:
    try:
        printed = import_module(f"benchmarks.speed.{part}").run(options.split())
    finally:
        unet.drawn_weights.cache_clear()
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == 2 + rows and len({line.count("|") for line in table}) == 1
