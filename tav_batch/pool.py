"""A pool of processes on one machine. Each keeps its model; one that dies is replaced, and its row is run again.

Each worker has a pipe of its own, which ends with it. No lock, queue or thread is shared, so that one may be killed at
any moment, which `concurrent.futures` does not always survive. A worker stops with SIGTERM, upon which a tuning saves
its state, and by itself when its driver is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from .handout import Handout
from .record import UNWRITTEN, Call, Record, Task, failed, succeeded, unwritten

MOST_ATTEMPTS = 3
GRACE = 60.0  # seconds for a worker to save its state
END = 10.0  # seconds for an idle worker to end
POLL = 1.0  # seconds
STOPPED = "stopped"

_running = _stopped = False  # of a worker's process


class Stopped(BaseException):
    """A worker was told to stop."""


def _stop(*_: Any) -> None:
    """Raise in the row that runs, once: a second signal must not interrupt the saving of a state."""
    global _stopped
    before, _stopped = _stopped, True
    if _running and not before:
        raise Stopped


def _serve(connection: Connection, call: Call) -> None:
    """Run the rows that come, until the driver closes the pipe or is gone."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the driver stops its workers
    threading.Thread(target=_end_without_driver, daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(_outcome(call, task))


def _end_without_driver() -> None:
    """End this process when the driver is gone, after the state of a tuning is saved."""
    driver = multiprocessing.parent_process()
    assert driver is not None, "a worker is started by a driver"
    driver.join()
    os.kill(os.getpid(), signal.SIGTERM)
    until = time.monotonic() + GRACE
    while _running and time.monotonic() < until:
        time.sleep(0.05)
    os._exit(1)


def _outcome(call: Call, task: Task) -> Record | str:
    """The record of a row; STOPPED, or why it could not be written, where there is none."""
    global _running
    try:
        _running = True
        if _stopped:
            raise Stopped
        return call(task)
    except Stopped:
        return STOPPED
    except Exception as error:
        return str(error) or type(error).__name__
    finally:
        _running = False


class Worker:
    """A process that runs rows, one at a time.

    Arguments:
        call: runs a row; it is sent to the process.

    Attributes:
        connection: from which the outcome of a row is read; it ends when the process does.
    """

    def __init__(self, call: Call):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, call))
        self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def submit(self, task: Task) -> None:
        """Run a row.

        Raises:
            OSError: if the process is dead.
        """
        self.connection.send(task)

    def result(self) -> Record | str | None:
        """The outcome of the row, see `_outcome`; None if the process died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def stop(self) -> None:
        """Stop the row that runs; a tuning saves its state."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """End the process; a row that still runs is lost. Returns when the process is gone."""
        self.connection.close()
        self._process.join(END)
        self._process.kill()
        self._process.join()


class Pool:
    """Runs the rows of a plan on workers.

    Arguments:
        calls: what each worker runs; one worker for each.
        tasks: makes the task of a row.
        attempts: after so many deaths of workers over a row it has failed.
    """

    def __init__(self, calls: list[Call], tasks: Callable[[int], Task], attempts: int = MOST_ATTEMPTS):
        self._calls, self._tasks, self._attempts = calls, tasks, attempts
        self._workers = [Worker(call) for call in calls]
        self._busy: dict[int, Task] = {}  # by worker
        self._deaths: dict[int, int] = {}
        self._kill_at = float("inf")  # the time after which what was stopped and still runs is killed
        self.stopping = False

    def stop(self) -> None:
        """Hand out nothing more, and stop what runs. May be called from a signal handler, and again."""
        self.stopping = True
        self._kill_at = min(self._kill_at, time.monotonic() + GRACE)
        for number in [*self._busy]:
            if time.monotonic() < self._kill_at:
                self._workers[number].stop()
            else:  # its code runs no signal handler, such as a decoder that hangs
                self._workers[number].kill()

    def run(self, handout: Handout) -> Iterator[Record]:
        """The records of rows as they end. May be called again for more rows; `close` ends the workers."""
        while True:
            if self.stopping:
                self.stop()  # a worker may have started since
            self._hand_out(handout)
            if not self._busy:
                return
            for number in self._ready():
                record = self._ended(number, handout)
                if record is not None:
                    yield record

    def close(self) -> None:
        """End the workers; those that run a row save the state of a tuning."""
        while self._busy:
            self.stop()  # again, so that one which does not stop is killed in time
            for number in self._ready():
                del self._busy[number]
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _ready(self) -> list[int]:
        """Busy workers whose row has ended, or who died, after a moment at most."""
        ready = wait([self._workers[number].connection for number in self._busy], timeout=POLL)
        return [number for number in self._busy if self._workers[number].connection in ready]

    def _hand_out(self, handout: Handout) -> None:
        for number in range(len(self._workers)):
            if self.stopping or number in self._busy:
                continue
            if (row := handout.next(number)) is None:
                continue
            task = replace(self._tasks(row), attempt=1 + self._deaths.get(row, 0))
            try:
                self._workers[number].submit(task)
            except OSError:  # it died while it was idle
                self._replace(number)
                with suppress(OSError):  # `run` finds that this one is dead too
                    self._workers[number].submit(task)
            self._busy[number] = task

    def _replace(self, number: int) -> None:
        self._workers[number].kill()
        self._workers[number].close()
        self._workers[number] = Worker(self._calls[number])

    def _ended(self, number: int, handout: Handout) -> Record | None:
        """The record of the row that a worker ran; None if the row is to be run again."""
        outcome, task = self._workers[number].result(), self._busy.pop(number)
        if isinstance(outcome, dict):
            handout.done(task.number, tuned=succeeded(outcome))
            return outcome
        if outcome is not None and outcome != STOPPED:
            handout.done(task.number, tuned=False)
            return unwritten(task, outcome)
        if self.stopping:
            handout.again(task.number)
            return None
        self._replace(number)  # a worker that another program has stopped runs nothing more
        self._deaths[task.number] = deaths = self._deaths.get(task.number, 0) + 1
        if deaths < self._attempts:
            handout.again(task.number)
            return None
        handout.done(task.number, tuned=False)
        return failed(task, _died(deaths)) | {UNWRITTEN: True}


def _died(times: int) -> str:
    return (
        f"Its worker died {times} times: the clip may crash its decoder, or the machine's memory was full. "
        "Convert the clip with ffmpeg, or give fewer workers, and --retry-failed."
    )
