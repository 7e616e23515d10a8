"""What workers of tests run in place of edits; it loads nothing."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tav_batch.record import DONE, FAILED, Record, Task, record_name
from tav_core.atomic import write_bytes


@dataclass
class Nothing:
    """Writes a video of a few bytes and its record.

    Arguments:
        folder: of both.
        seconds: that a row takes.
        log: a file to which each start of a row is appended.
    """

    folder: str
    seconds: float = 0.0
    log: str = ""

    def __call__(self, task: Task) -> Record:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{task.number} {os.getpid()} {task.attempt}\n")
        self.work(task)
        record = {"number": task.number, "name": task.name, "digest": task.digest, "status": DONE, "host": "here"}
        record |= {"file": task.file, "attempt": task.attempt, "seconds": {"all": self.seconds}}
        path = Path(self.folder, task.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
        Path(self.folder, record_name(task.name)).write_text(json.dumps(record))
        return record

    def work(self, task: Task) -> None:
        time.sleep(self.seconds)


@dataclass
class Failing(Nothing):
    """Fails at rows whose prompt says so, as a record; dies at others."""

    def __call__(self, task: Task) -> Record:
        record = super().__call__(task)
        if task.job["prompt"] == "fail":
            record |= {"status": FAILED, "error": "it was told to: change the prompt."}
            Path(self.folder, record_name(task.name)).write_text(json.dumps(record))
        return record

    def work(self, task: Task) -> None:
        super().work(task)
        if task.job["prompt"] == "die" or (task.job["prompt"] == "die once" and task.attempt == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if task.job["prompt"] == "stopped once" and task.attempt == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if task.job["prompt"] == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        if task.job["prompt"] == "full disk":
            raise OSError(28, "No space left on device")


@dataclass
class Saving(Nothing):
    """Works in steps, and writes how far it came when it is stopped."""

    def work(self, task: Task) -> None:
        step = 0
        try:
            for step in range(10**6):  # noqa: B007
                time.sleep(0.01)
        finally:
            Path(self.folder, f"{task.name}.state").write_text(str(step))


@dataclass
class Inline:
    """An engine that runs rows in this process, one after the other."""

    call: Any
    tasks: Callable[[int], Task]
    stopped: bool = False

    def run(self, handout: Any) -> Iterator[Record]:
        while not self.stopped and (row := handout.next(0)) is not None:
            record = self.call(self.tasks(row))
            handout.done(row, tuned=True)
            yield record

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        pass


def no_work(task: Task) -> Record:
    """A record of nothing."""
    return {"number": task.number, "name": task.name, "digest": task.digest, "status": DONE, "file": task.file}


@dataclass
class Large(Nothing):
    """Writes videos of 400 kB, whole or not at all."""

    def __call__(self, task: Task) -> Record:
        record = no_work(task)
        write_bytes(Path(self.folder, task.file), bytes(400_000))
        write_bytes(Path(self.folder, record_name(task.name)), json.dumps(record).encode())
        return record
