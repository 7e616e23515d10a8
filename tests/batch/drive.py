"""A driver in a process of its own, for tests to stop and kill."""

import os
import sys
from pathlib import Path

from tav_batch.driver import Batch
from tav_batch.log import Log
from tav_batch.pool import Pool
from tests.batch import calls
from tests.batch.tables import ROOT, edits, rows_of


def drive(folder: Path, kind: str, workers: int, number: int, seconds: float) -> None:
    """Run a batch of rows of three clips into FOLDER/out, and exit with its status.

    Arguments:
        kind: the name of the class in `calls` that runs rows.
        number: of rows.
        seconds: that a row takes.
    """
    os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    output = str(folder / "out")
    call = getattr(calls, kind)(output, seconds, str(folder / "log"))
    batch = Batch(rows_of(folder, edits(number, clips=3)), output, Log("json"))
    sys.exit(batch.run(Pool([call] * workers, batch.task)).status)
