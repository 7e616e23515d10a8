"""Thousands of broken files through every reader: no crash, no hang, bounded memory, always one clear error.

`make soak` runs it; TAV_MUTATIONS sets the number of files of each kind.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.hostile.readers import KINDS, read_mutated

COUNT = int(os.environ.get("TAV_MUTATIONS", "2000"))


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bounds memory by means of Linux")
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = read_mutated(kind, tmp_path, COUNT)
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}: {report}\n")
    assert report.tried == COUNT
    assert report.faults == []
