"""A row to run, and the record of what came of it, as plain values that processes and machines exchange.

The record, NAME.result.json beside the video, is written last: where it is, the row is done.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FORMAT, VERSION = "tune-a-video-result", 1
DONE, FAILED = "done", "failed"
PARQUET, CSV, REPORT = "results.parquet", "results.csv", "report.html"  # in the output
UNWRITTEN = "unwritten"  # in a record that its worker could not write
Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A row to run.

    Attributes:
        number: of the row.
        name: of its edit, without suffix.
        digest: of its job, see `jobs.Checked`.
        file: the video in the output, NAME.mp4.
        job: the fields of its `EditJob`, without output and device, as `job.files.job_values` makes them.
        run: which run of the batch it is of.
        attempt: from 1; more where a worker died over it.
    """

    number: int
    name: str
    digest: str
    file: str
    job: dict[str, Any] = field(default_factory=dict)
    run: str = ""
    attempt: int = 1


Call = Callable[[Task], Record]  # runs a row


def record_name(name: str) -> str:
    """The record's file in the output."""
    return f"{name}.result.json"


def record_of(task: Task, status: str, **facts: Any) -> Record:
    """A record: what it is of, and the facts."""
    head = {"format": FORMAT, "version": VERSION, "number": task.number, "name": task.name, "status": status}
    who = {
        "digest": task.digest,
        "run": task.run,
        "attempt": task.attempt,
        "host": socket.gethostname(),
        "process": os.getpid(),
    }
    return head | who | facts


def failed(task: Task, error: str, **facts: Any) -> Record:
    """The record of a row that failed, with the error and its remedy in one sentence."""
    return record_of(task, FAILED, error=error, **facts)


def unwritten(task: Task, error: str) -> Record:
    """The record of a row whose record could not be written, such as on a full disk; it runs again after a restart."""
    return failed(task, f"The worker could not write its record ({error}): free space, and start the command again.")


def succeeded(record: Record | None) -> bool:
    """Whether a record is of a row that ended without failure."""
    return record is not None and record.get("status") == DONE
