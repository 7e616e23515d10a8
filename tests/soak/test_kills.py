"""kill -9 at random moments of tuning and saving: a few in `make slow`, many in `make soak`."""

import os
from pathlib import Path

import pytest

from tests.soak.kills import kill_again_and_again


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals.")
@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_no_stored_step_is_lost_by_kills(tmp_path: Path, kills: int, capsys: pytest.CaptureFixture[str]) -> None:
    counts = kill_again_and_again(tmp_path, kills)
    with capsys.disabled():
        if kills > 3:
            print(", ".join(f"{number} {what}" for what, number in counts.items()))  # noqa: T201
    assert counts["kills"] == kills and counts["kept steps lost"] == 0
    assert counts["tunings finished"] > 0 and counts["while a file was written"] > 0
