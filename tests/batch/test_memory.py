"""The driver's memory grows by the table's cells alone: records and results stay on the disk."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("pyarrow")
SCRIPT = """
import resource, sys, time
from pathlib import Path
from tav_batch.driver import Batch
from tav_batch.log import Log
from tests.batch.calls import Inline, no_work
from tests.batch.tables import edits, rows_of

def call(task):
    return no_work(task) | {"versions": {"torch": f"{task.number} " * 1000}}  # a record of some 5 kB


folder, number = Path(sys.argv[1]), int(sys.argv[2])
batch = Batch(rows_of(folder, edits(10, clips=5)), str(folder / "first"), Log("json"))
batch.run(Inline(call, batch.task))  # what loads once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.process_time()
batch = Batch(rows_of(folder, edits(number, clips=5)), str(folder / "out"), Log("json"))
assert batch.run(Inline(call, batch.task)).status == 0
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(before / 1024, grown / 1024, time.process_time() - began)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="The peak is counted in KiB on Linux.")
def test_the_driver_stays_as_small_with_ten_thousand_rows_as_with_ten(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "10000"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    before, grown, seconds = map(float, done.stdout.split())
    print(f"{before:.0f} MiB, and {grown:.1f} more with 10,000 rows, in {seconds:.1f} s of the processor")  # noqa: T201
    assert grown < 60, "10,000 records are 50 MiB more"
