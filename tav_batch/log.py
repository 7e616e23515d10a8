"""The progress of a batch on standard error: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

FORMATS = ("text", "json")


@dataclass
class Log:
    """Writes what happens.

    Arguments:
        kind: of FORMATS.
    """

    kind: str = "text"
    _began: float = field(default_factory=time.monotonic)

    def say(self, event: str, text: str, **facts: Any) -> None:
        """Write one line.

        Arguments:
            event: its kind in JSON: "plan", "fault", "row", "stopped", "end".
            text: the line for people.
            facts: the values for JSON.
        """
        if self.kind == "json":
            line = json.dumps({"event": event, "time": round(time.time(), 3), **facts}, default=str)
        else:
            line = text
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def row(self, name: str, status: str, error: str | None, done: int, failed: int, total: int, ran: int) -> None:
        """A row has ended. Arguments: ran, how many ended in this run, from which the time left is told."""
        spent = time.monotonic() - self._began
        left = spent / ran * (total - done) if ran else None
        shown = "" if left is None else f", {_minutes(left)} left"
        text = f"{done} of {total} done, {failed} failed{shown}: {name}{f' failed: {error}' if error else ''}"
        facts = {"name": name, "status": status, "error": error, "done": done, "failed": failed, "total": total}
        self.say("row", text, **facts, left_seconds=None if left is None else round(left, 1))


def _minutes(seconds: float) -> str:
    minutes = int(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02} s"
