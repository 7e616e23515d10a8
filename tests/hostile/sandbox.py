"""Read hostile files in a process of their own, with a bound on memory and on time.

The process lives for many files; one that dies or hangs is replaced and reported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tests.forks import CONTEXT

from .clear import is_raised_by_the_core

SECONDS = 10.0  # of processor time that a file may take
PATIENCE = 12  # times as much may pass on a busy machine
GIB = 2**30


@dataclass
class Report:
    """What became of the files."""

    tried: int = 0
    read: int = 0
    refused: int = 0
    longest: float = 0.0  # seconds
    peak: int = 0  # bytes above what the process held before the first file
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.tried} tried, {self.read} read, {self.refused} refused, {len(self.faults)} faults, "
            f"longest {self.longest:.2f} s, peak {self.peak / 2**20:.0f} MiB"
        )


def read_all(
    reader: Callable[[Path], None], good: Path, files: Iterable[Path], memory: int, seconds: float = SECONDS
) -> Report:
    """Let `reader` read each file in a child.

    Arguments:
        reader: a function of a module, so that a child can import it; ends in silence or in an error.
        good: a file that reads well, for a first try before the limits are set.
        files: read one after the other; each may be made when its turn comes.
        memory: bytes of address space that the child may take beyond what it has after the first try.
        seconds: of processor time that a file may take.
    """
    report, child = Report(), None
    for file in files:
        child = child or _Child(reader, good, memory, seconds)
        began = time.monotonic()
        outcome, message, peak = child.read(file)
        report.tried += 1
        report.longest = max(report.longest, time.monotonic() - began)
        report.peak = max(report.peak, peak)
        report.read += outcome == "read"
        report.refused += outcome == "refused"
        if outcome not in ("read", "refused"):
            report.faults.append(f"{file.name}: {outcome}: {message[:600]}")
        if outcome in ("died", "hung"):
            child.stop()
            child = None
    if child is not None:
        child.stop()
    return report


def unclear(error: BaseException, name: str) -> str:
    """Why an error is not one clear sentence about the file of this name; empty if it is."""
    text = str(error)
    if not isinstance(error, (ValueError, OSError)):
        return f"{type(error).__name__} is neither ValueError nor OSError"
    if not is_raised_by_the_core(error):
        return "it is not raised by tav_core"
    if name not in text:
        return "the message does not name the file"
    if "\n" in text or not 20 < len(text) < 1000:
        return f"the message has {len(text)} characters and {text.count(chr(10)) + 1} lines"
    return ""


class _Child:
    def __init__(self, reader: Callable[[Path], None], good: Path, memory: int, seconds: float) -> None:
        self.seconds = seconds
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, reader, good, memory), daemon=True)
        self.process.start()
        theirs.close()
        assert self.pipe.poll(300) and self.pipe.recv() == "ready", "the good file could not be read"

    def read(self, file: Path) -> tuple[str, str, int]:
        try:
            self.pipe.send(file)
            began, worked = time.monotonic(), self._processor_time()
            while not self.pipe.poll(1):
                busy, passed = self._processor_time() - worked, time.monotonic() - began
                if busy > self.seconds or passed > PATIENCE * self.seconds:
                    return "hung", f"no answer after {busy:.0f} s of work and {passed:.0f} s", 0
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join(10)
            return "died", f"exit code {self.process.exitcode}", 0

    def _processor_time(self) -> float:
        """Seconds of processor time that all threads of the child have used; 0 once it has gone."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, reader: Callable[[Path], None], good: Path, memory: int) -> None:
    import resource  # which Windows has not

    reader(good)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark counts from here
    limit = _status("VmSize") + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send("ready")
    while True:
        file = pipe.recv()
        try:
            reader(file)
            outcome, message = "read", ""
        except BaseException as error:
            why = unclear(error, file.stem.rstrip("0123456789"))
            outcome, message = ("unclear", f"{why}: {type(error).__name__}: {error}") if why else ("refused", "")
        pipe.send((outcome, message, _status("VmHWM") - before))


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024
