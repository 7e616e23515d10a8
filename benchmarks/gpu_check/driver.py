"""Run the parts, each in a process of its own with a time limit, and keep what they found in one JSON.

A part that was done is not run again; one that failed is recorded with its error and does not stop the others. A
process of its own gives each part a fresh device, whatever became of the one before.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.gpu_check.setting import Setting
from tav_core.atomic import write_text

FORMAT, VERSION = "tune-a-video-gpu-check", 1
LIMITS = {"precision": 45, "memory": 90, "speed": 75, "fit": 60, "native": 90, "compiled": 240}  # seconds, by part
TOTAL = 600  # seconds
LEAST = 5  # seconds that are left for a part to be begun
DONE, FAILED, SKIPPED = "done", "failed", "skipped"
Outcome: TypeAlias = dict[str, Any]
RunPart: TypeAlias = Callable[[str, Setting, float], Outcome]


@dataclass(frozen=True)
class Check:
    """What is known so far. Attributes: path, of the JSON; setting; parts, the outcome of each that was tried."""

    path: Path
    setting: Setting
    parts: dict[str, Outcome]

    @classmethod
    def load(cls, path: Path, setting: Setting) -> Check:
        """What a file holds; nothing where there is none.

        Raises:
            ValueError: the file is no such JSON, or of another machine or setting.
        """
        if not path.exists():
            return cls(path, setting, {})
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            found = saved["format"], saved["version"], saved["machine"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no file of this check: give another --output.") from error
        if found != (FORMAT, VERSION, json.loads(json.dumps(setting.machine()))):
            raise ValueError(f"{path} is of another machine, version or size: give another --output.")
        return cls(path, setting, saved["parts"])

    def save(self) -> None:
        about = {"format": FORMAT, "version": VERSION, "machine": self.setting.machine(), "parts": self.parts}
        write_text(self.path, json.dumps(about, indent=2) + "\n")

    def tables(self) -> dict[str, str]:
        """What to print of each part: its table, or why there is none."""
        texts = {}
        for name, outcome in self.parts.items():
            why = outcome.get("reason") or outcome.get("error")
            texts[name] = f"{outcome['status']}: {why}" if why else part(name).shown(outcome["result"])
        return texts


def part(name: str) -> Any:
    return import_module(f"benchmarks.gpu_check.{name}")


def run(
    check: Check, seconds: float, run_part: RunPart | None = None, limits: dict[str, int] = LIMITS
) -> Iterator[str]:
    """Run what is not done.

    Arguments:
        check: is kept up to date, and its file too.
        seconds: for all.
        run_part: runs one in so many seconds; None for `in_a_process`.

    Yields:
        The name of each part, after it was tried.
    """
    end = time.monotonic() + seconds
    for name, limit in LIMITS.items():
        if check.parts.get(name, {}).get("status") == DONE:
            continue
        left = min(limit, end - time.monotonic())
        began = time.monotonic()
        if why := part(name).unavailable(check.setting):
            outcome: Outcome = {"status": SKIPPED, "reason": why}
        elif left < LEAST:
            outcome = {"status": SKIPPED, "reason": f"No time was left of {seconds:.0f} s: run the command again."}
        else:
            outcome = (run_part or in_a_process)(name, check.setting, left)
        check.parts[name] = outcome | {"seconds": round(time.monotonic() - began, 1)}
        check.save()
        yield name


def in_a_process(name: str, setting: Setting, seconds: float) -> Outcome:
    """Run a part in a process of its own, which is ended with all that it started when its time is over."""
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--part", name, "--device", setting.device]
    command += ["--small"] if setting.small else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"status": FAILED, "error": f"It took more than {seconds:.0f} s."}
        finally:
            with suppress(ProcessLookupError, PermissionError):  # they have ended
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        return {"status": FAILED, "error": f"Its process ended with code {process.returncode}."}
    return json.loads(printed.splitlines()[-1])


def here(name: str, setting: Setting) -> Outcome:
    """Run a part in this process; any error of it is its outcome."""
    try:
        return {"status": DONE, "result": part(name).measure(setting)}
    except Exception as error:  # whatever a driver, a compiler or a host raises: the other parts are to run
        return {"status": FAILED, "error": f"{type(error).__name__}: {error}"}
