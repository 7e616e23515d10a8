"""A pool of processes on one machine. Each keeps its model; one that dies is replaced, and its row is run again.

Workers are spawned executors of one process each (`concurrent.futures`), so that the death of one breaks no other. A
worker stops with SIGTERM, upon which a tuning saves its state, and by itself when its driver is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .handout import Handout
from .record import UNWRITTEN, Call, Record, Task, failed, succeeded

MOST_ATTEMPTS = 3
GRACE = 60.0  # seconds for a worker to save its state
POLL = 1.0  # seconds

_call: Call | None = None  # of a worker's process
_running = _stopped = False


class Stopped(BaseException):
    """A worker was told to stop."""


def _stop(*_: Any) -> None:
    """Raise in the row that runs, once: a second signal must not interrupt the saving of a state."""
    global _stopped
    before, _stopped = _stopped, True
    if _running and not before:
        raise Stopped


def _start(call: Call) -> None:
    global _call
    _call = call
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the driver stops its workers
    threading.Thread(target=_end_without_driver, daemon=True).start()


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


def _run(task: Task) -> Record:
    global _running
    assert _call is not None, "the process was started by `Worker`"
    _running = True
    try:
        if _stopped:
            raise Stopped
        return _call(task)
    finally:
        _running = False


class Worker:
    """A process that runs rows, one at a time.

    Arguments:
        call: runs a row; it is sent to the process.
    """

    def __init__(self, call: Call):
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(call,))
        self._pid = self._pool.submit(os.getpid)

    @property
    def pid(self) -> int | None:
        """Of the process; None before it has started."""
        ended = self._pid.done() and self._pid.exception() is None
        return self._pid.result() if ended else None

    def submit(self, task: Task) -> Future[Record]:
        """Run a row."""
        return self._pool.submit(_run, task)

    def stop(self) -> None:
        """Stop the row that runs; a tuning saves its state."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        """End the process; a row that still runs is lost."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def kill(self) -> None:
        """End the process at once."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


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
        self._busy: dict[Future[Record], tuple[int, Task]] = {}
        self._deaths: dict[int, int] = {}
        self._kill_at = float("inf")  # the time after which what was stopped and still runs is killed
        self.stopping = False

    def stop(self) -> None:
        """Hand out nothing more, and stop what runs. May be called from a signal handler, and again."""
        self.stopping = True
        self._kill_at = min(self._kill_at, time.monotonic() + GRACE)
        for number in {number for number, _ in self._busy.values()}:
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
            ended, _ = wait(self._busy, timeout=POLL, return_when=FIRST_COMPLETED)
            for future in ended:
                record = self._ended(future, handout)
                if record is not None:
                    yield record

    def close(self) -> None:
        """End the workers; those that run a row save the state of a tuning."""
        while self._busy:
            self.stop()  # again for a worker that has started since
            for future in wait(self._busy, timeout=POLL).done:
                del self._busy[future]
        for worker in self._workers:
            worker.close()

    def _hand_out(self, handout: Handout) -> None:
        working = {number for number, _ in self._busy.values()}
        for number in range(len(self._workers)):
            if self.stopping or number in working:
                continue
            if (row := handout.next(number)) is None:
                continue
            task = replace(self._tasks(row), attempt=1 + self._deaths.get(row, 0))
            self._busy[self._submitted(number, task)] = (number, task)

    def _submitted(self, number: int, task: Task) -> Future[Record]:
        try:
            return self._workers[number].submit(task)
        except BrokenProcessPool:  # it died while it was idle
            self._replace(number)
            return self._workers[number].submit(task)

    def _replace(self, number: int) -> None:
        self._workers[number].close()
        self._workers[number] = Worker(self._calls[number])

    def _ended(self, future: Future[Record], handout: Handout) -> Record | None:
        number, task = self._busy.pop(future)
        error = future.exception()
        if error is None:
            handout.done(task.number, tuned=succeeded(future.result()))
            return future.result()
        if not isinstance(error, (Stopped, BrokenProcessPool)):
            handout.done(task.number, tuned=False)
            return failed(task, f"The worker could not write its record ({error}): free space, and --retry-failed.")
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
