"""A few broken files through every reader; `make soak` tries thousands."""

import sys
from pathlib import Path

import pytest

from .readers import KINDS, read_mutated


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bounds memory by means of Linux")
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind: str, tmp_path: Path) -> None:
    report = read_mutated(kind, tmp_path, 50)
    assert report.tried == 50
    assert report.faults == []
