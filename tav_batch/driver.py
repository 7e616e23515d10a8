"""One batch: check the table, plan, run what is not done, keep the results up to date."""

from __future__ import annotations

import json
import secrets
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from .handout import Group, Handout, grouped
from .jobs import Checked, Rows
from .log import Log
from .plan import model_name
from .record import FAILED, REPORT, UNWRITTEN, Record, Task, record_name, succeeded
from .report import write_report
from .results import Results
from .storage import Folder
from .times import StageTimes

STOPPED = "stopped"


class Engine(Protocol):
    """Where rows run."""

    def run(self, handout: Handout) -> Iterator[Record]:
        """The records of rows as they end; ends early after `stop`."""

    def stop(self) -> None:
        """Hand out nothing more, and stop what runs; from a signal handler."""

    def close(self) -> None:
        """End all processes."""


@dataclass(frozen=True)
class Outcome:
    """What a batch came to. Attributes: rows, done and failed; whether it was stopped by a signal, and which."""

    total: int
    done: int
    failed: int
    signal: int = 0

    @property
    def status(self) -> int:
        """The exit status: 0 only if all rows succeeded."""
        if self.signal:
            return 128 + self.signal
        return int(self.failed > 0 or self.done < self.total)


class Batch:
    """The rows of a table and their output.

    Arguments:
        rows: of the table.
        output: the folder or URL of videos, records and results.
        log: of progress.
        retry_failed: whether rows that failed before run again.
        compare: the output of another batch, which the report shows beside this one.

    Attributes:
        checked: all rows, checked.
        groups: what is left to run.
    """

    def __init__(self, rows: Rows, output: str, log: Log, *, retry_failed: bool = False, compare: str | None = None):
        self.rows, self.log, self.folder = rows, log, Folder(output)
        self.checked = rows.check()
        self.results = Results(self.folder, [row.name for row in self.checked], rows.rows, rows.columns)
        self._run, self._compare = secrets.token_hex(8), compare
        self._models = {row.number: row.model for row in self.checked}
        left = self._take_what_is_done(retry_failed)
        self.groups: list[Group] = grouped((row.number, row.group, row.model) for row in left)

    def task(self, number: int) -> Task:
        """The task of a row."""
        row = self.checked[number]
        return Task(
            number, row.name, row.digest, f"{row.name}{self.rows.suffix}", self.rows.job_values(number), self._run
        )

    def run(self, engine: Engine) -> Outcome:
        """Run what is left.

        Raises:
            OSError: if the results cannot be written at the end; videos and records are whole then.
        """
        total, ran, times = len(self.checked), 0, StageTimes.load()
        with self._locked(), closing(engine), stopped_by_signals(engine) as caught:
            for record in engine.run(Handout(self.groups)):
                number, ran = int(record["number"]), ran + 1
                self._take(number, record, times)
                shown = record["name"], record["status"], record.get("error")
                self.log.row(*shown, self.results.num_done, self.results.num_failed, total, ran)
            self.results.write()
            self._write_report()
        times.save()
        return Outcome(total, self.results.num_done, self.results.num_failed, caught[0] if caught else 0)

    def _write_report(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            page = Path(scratch, REPORT)
            with page.open("w", encoding="utf-8") as file:
                write_report(file, self.results, self.rows, self.folder, self._compare)
            self.folder.put(REPORT, page)

    def _take(self, number: int, record: Record, times: StageTimes) -> None:
        if record.pop(UNWRITTEN, False):
            with suppress(OSError):  # the row runs again after a restart
                self.folder.write(record_name(record["name"]), json.dumps(record, indent=1).encode())
        self.results.add(number, record)
        if succeeded(record) and "size" in record:
            times.add(record, model_name(self._models[number]))
        with suppress(OSError):  # such as a full disk; the last writing raises
            self.results.write_if_due()

    def _take_what_is_done(self, retry_failed: bool) -> list[Checked]:
        """The rows that are left to run; records of the others go into the results."""
        left = []
        for row in self.checked:
            if row.fault:
                self.log.say("fault", row.fault, name=row.name, error=row.fault)
                self.results.add(row.number, {"status": FAILED, "name": row.name, "error": row.fault})
        good = [row for row in self.checked if not row.fault]
        found = self.folder.read_json(record_name(row.name) for row in good)
        for row, (_, record) in zip(good, found, strict=True):
            if self._keeps(row, record, retry_failed):
                self.results.add(row.number, record or {})
            else:
                left.append(row)
        return left

    def _keeps(self, row: Checked, record: Record | None, retry_failed: bool) -> bool:
        """Whether a row is done: its record is of this very job, and its video there."""
        if record is None or record.get("digest") != row.digest:
            return False
        return self.folder.exists(f"{row.name}{self.rows.suffix}") if succeeded(record) else not retry_failed

    def _locked(self) -> AbstractContextManager[Any]:
        """Held while a batch runs, so that no second driver writes to the same output."""
        if self.folder.remote:
            return nullcontext()
        Path(self.folder.path("")).mkdir(parents=True, exist_ok=True)
        return _held(FileLock(self.folder.path(".batch.lock")), self.folder.place)


@contextmanager
def _held(lock: FileLock, place: str) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OSError(f"Another batch writes to {place}: wait for it, or give another --output.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stopped_by_signals(engine: Engine, signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT)) -> Iterator[list[int]]:
    """Stop an engine at SIGTERM or an interruption from the terminal. Yields the signals that came."""
    caught: list[int] = []

    def stop(number: int, _: object) -> None:
        caught.append(number)
        engine.stop()

    before: dict[int, Callable[..., Any] | int | None] = {}
    try:
        for number in signals:
            before[number] = signal.signal(number, stop)
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
