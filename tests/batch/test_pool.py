"""The pool of processes, and the driver over it: deaths, stops, reruns, results. The stages do nothing."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tav_batch.driver import Batch
from tav_batch.handout import Handout
from tav_batch.log import Log
from tav_batch.pool import Pool
from tests.batch.calls import Failing, Large, Nothing
from tests.batch.drive import drive
from tests.batch.tables import ROOT, edits, rows_of, table_of

pytest.importorskip("pyarrow")


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "out"


def run(folder: Path, rows: list[dict[str, Any]], call: Nothing, workers: int = 2, **options: Any) -> Any:
    batch = Batch(rows_of(folder, rows), call.folder, Log("json"), **options)
    return batch.run(Pool([call] * workers, batch.task))


def starts(log: Path) -> Counter[int]:
    return Counter(int(line.split()[0]) for line in log.read_text().splitlines()) if log.exists() else Counter()


def test_failed_and_deadly_rows_are_rows_and_the_others_end(tmp_path: Path, output: Path, capsys: Any) -> None:
    import pyarrow.parquet as pq

    rows = edits(9, clips=3, name="", shot="wide, or so")
    for row, prompt in {1: "fail", 2: "die", 4: "die once", 6: "full disk"}.items():
        rows[row]["prompt"] = prompt
    rows[3]["num_frames"] = "none"
    outcome = run(tmp_path, rows, Failing(str(output), log=str(tmp_path / "log")))
    assert (outcome.total, outcome.done, outcome.failed, outcome.status) == (9, 9, 4, 1)
    table = table_of(output)
    status = {int(row["name"]) - 1: row["status"] for row in table}
    assert {row for row, what in status.items() if what == "failed"} == {1, 2, 3, 6}
    errors = {int(row["name"]) - 1: row["error"] for row in table}
    assert "change the prompt" in errors[1] and "Line 5, column num_frames" in errors[3] and "free space" in errors[6]
    assert "died 3 times" in errors[2] and "Convert the clip with ffmpeg" in errors[2]
    assert starts(tmp_path / "log")[2] == 3 and starts(tmp_path / "log")[4] == 2
    assert table[0]["shot"] == "wide, or so", "unknown columns are carried along"
    assert pq.read_table(output / "results.parquet").column("status").to_pylist() == [row["status"] for row in table]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines].count("row") == 8 and lines[-1]["failed"] == 4
    assert not [*output.rglob("*.tmp")]

    before = starts(tmp_path / "log")
    outcome = run(tmp_path, rows, Failing(str(output), log=str(tmp_path / "log")))
    assert (outcome.done, outcome.failed) == (9, 4)
    assert starts(tmp_path / "log") - before == {6: 1}, "a row without a record runs again, and nothing that is done"

    rows[1]["prompt"] = rows[3]["num_frames"] = ""
    rows[1]["prompt"], rows[2]["prompt"], rows[6]["prompt"] = "b", "die once", "b"
    before = starts(tmp_path / "log")
    outcome = run(tmp_path, rows, Failing(str(output), log=str(tmp_path / "log")))
    assert outcome.status == 0 and {*(starts(tmp_path / "log") - before)} == {1, 2, 3, 6}, "changed rows run again"


def test_failed_rows_run_again_on_request_alone(tmp_path: Path, output: Path) -> None:
    rows, log = edits(2), tmp_path / "log"
    rows[0]["prompt"] = "fail"
    for options, number in (({}, 2), ({}, 0), ({"retry_failed": True}, 1)):
        before = starts(log)
        assert run(tmp_path, rows, Failing(str(output), log=str(log)), workers=1, **options).status == 1
        assert sum((starts(log) - before).values()) == number
    (output / "2.mp4").unlink()
    before = starts(log)
    run(tmp_path, rows, Failing(str(output), log=str(log)), workers=1)
    assert starts(log) - before == {1: 1}, "a video that is gone is made again"


def test_results_are_there_while_the_batch_runs(tmp_path: Path, output: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tav_batch.results.EVERY", 0.0)
    monkeypatch.setattr("tav_batch.results.SHARE", 1e9)
    batch = Batch(rows_of(tmp_path, edits(3)), str(output), Log("json"))
    seen = []

    class Engine(Pool):
        def run(self, handout: Any) -> Any:
            for record in super().run(handout):
                yield record
                seen.append([row["status"] for row in table_of(output)])

    batch.run(Engine([Nothing(str(output))], batch.task))
    assert seen == [["done", "pending", "pending"], ["done", "done", "pending"], ["done"] * 3]


def test_results_are_a_table_for_another_batch(tmp_path: Path, output: Path) -> None:
    run(tmp_path, edits(2, shot="x"), Nothing(str(output)))
    (tmp_path / "again").mkdir()
    rows = table_of(output)
    rows[1]["video"] = ""
    outcome = run(tmp_path / "again", rows, Nothing(str(tmp_path / "again" / "out")))
    assert (outcome.done, outcome.failed) == (2, 1)
    again = table_of(tmp_path / "again" / "out")
    assert [row["status"] for row in again] == ["done", "failed"]
    assert [row["table_status"] for row in again] == ["done", "done"] and again[1]["shot"] == "x"


def test_a_full_disk_fails_rows_leaves_no_half_file_and_the_batch_goes_on(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output, rows = small_disk / "out", edits(8, clips=4)
    batch = Batch(rows_of(tmp_path, rows), str(output), Log("json"))
    (small_disk / "other").write_bytes(bytes(700_000))
    engine = Pool([Large(str(output))] * 2, batch.task)
    records = []
    with contextlib.closing(engine):
        records = [*engine.run(Handout(batch.groups))]
    status = [record["status"] for record in records]
    assert status.count("done") in (2, 3) and len(status) == 8
    assert all("No space left" in record["error"] and "free space" in record["error"]
               for record in records if record["status"] == "failed")  # fmt: skip
    files = {path.name: path.stat().st_size for path in output.rglob("*") if path.is_file()}
    assert {size for name, size in files.items() if name.endswith(".mp4")} == {400_000}
    assert not [name for name in files if name.endswith((".tmp", ".part"))]

    roomy = tmp_path / "roomy"
    shutil.copytree(output, roomy)
    batch = Batch(rows_of(tmp_path, rows), str(roomy), Log("json"))
    left = {row for group in batch.groups for row in group.rows}
    assert left == {record["number"] for record in records if record["status"] == "failed"}
    assert batch.run(Pool([Large(str(roomy))], batch.task)).status == 0


def test_two_drivers_do_not_share_an_output(tmp_path: Path, output: Path) -> None:
    batch = Batch(rows_of(tmp_path, edits(1)), str(output), Log("json"))
    with batch._locked(), pytest.raises(OSError, match="Another batch writes to"):
        batch.run(Pool([], batch.task))


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals.")
def test_a_worker_that_another_program_stops_is_replaced(tmp_path: Path, output: Path) -> None:
    rows, log = edits(3), tmp_path / "log"
    rows[1]["prompt"] = "stopped once"
    assert run(tmp_path, rows, Failing(str(output), log=str(log)), workers=1).status == 0
    assert starts(log) == {0: 1, 1: 2, 2: 1}


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals.")
def test_a_row_that_runs_no_signal_handler_is_killed_after_a_time(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tav_batch.pool.GRACE", 0.5)
    rows, log = edits(2), tmp_path / "log"
    rows[0]["prompt"] = "deaf"
    batch = Batch(rows_of(tmp_path, rows), str(output), Log("json"))
    pool = Pool([Failing(str(output), log=str(log))], batch.task)

    def stop_when_it_runs() -> None:
        wait_for(log.exists)
        pool.stop()

    threading.Thread(target=stop_when_it_runs).start()
    assert batch.run(pool).done == 0 and starts(log) == {0: 1}


def start(folder: Path, kind: str, workers: int, number: int, seconds: float = 0.0) -> BaseProcess:
    """A driver, forked from a process that has loaded all modules once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.batch.drive"])
    process = context.Process(target=drive, args=(folder, kind, workers, number, seconds))
    process.start()
    return process


def status_of(process: BaseProcess, seconds: float = 120.0) -> int | None:
    """The exit status of a driver; None if it does not end."""
    process.join(seconds)
    return process.exitcode


def wait_for(condition: Any, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals.")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_what_runs_and_leaves_a_batch_that_goes_on(tmp_path: Path, output: Path, number: int) -> None:
    output.mkdir()
    process = start(tmp_path, "Saving", 2, 3)
    wait_for(lambda: sum(starts(tmp_path / "log").values()) == 2 or not process.is_alive())
    os.kill(process.pid or 0, number)
    assert status_of(process) == 128 + number
    saved = [*output.glob("*.state")]
    assert len(saved) == 2 and not [*output.glob("*.result.json")]
    assert [row["status"] for row in table_of(output)] == ["pending"] * 3
    assert status_of(start(tmp_path, "Nothing", 1, 3)) == 0 and len([*output.glob("*.result.json")]) == 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="The processes are found in /proc.")
@pytest.mark.parametrize("rounds", [3, pytest.param(30, marks=pytest.mark.soak)])
def test_kills_of_workers_and_driver_lose_no_row(tmp_path: Path, output: Path, rounds: int) -> None:
    chance, total, killed = random.Random(rounds), 12, Counter[str]()
    for turn in range(rounds):
        process = start(tmp_path, "Nothing", 2, total, 0.05)
        driver = process.pid or 0
        wait_for(lambda: not process.is_alive() or (tmp_path / "log").exists())  # noqa: B023
        time.sleep(chance.uniform(0, 0.3))
        workers = children(driver) if process.is_alive() else []
        victim = driver if turn % 2 or not workers else chance.choice(workers)
        if alive(victim):
            os.kill(victim, signal.SIGKILL)
            killed["driver" if victim == driver else "worker"] += 1
        status = status_of(process)
        if status == -signal.SIGKILL:
            wait_for(lambda: not any(map(alive, workers)))  # noqa: B023
            assert status_of(start(tmp_path, "Nothing", 2, total)) == 0
        else:
            assert status == 0
        records = [json.loads(path.read_text()) for path in output.glob("*.result.json")]
        assert len(records) == total and all((output / record["file"]).read_bytes() == b"video" for record in records)
        assert [row["status"] for row in table_of(output)] == ["done"] * total
        assert sum(starts(tmp_path / "log").values()) <= total + 2 * 2, "at most the rows that ran were run twice"
        for path in output.glob("*.result.json"):
            path.unlink()
        (tmp_path / "log").unlink()
    print(dict(killed))  # noqa: T201
    assert killed["worker"] and killed["driver"]
