"""Stage times measured on this machine, from which the time of a batch is estimated."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from tav_core.atomic import write_text
from tav_core.job import EditJob

from .record import Record

STEPS = {"tune": "tune", "invert": "sample", "sample": "sample"}  # stages that count by step, and by which steps
KEEP = 0.8  # of what was measured before, at each new measurement
Rates = dict[str, float]  # seconds by stage for a step and a pixel of a frame, or for a pixel


def times_file() -> Path:
    """Where the times are kept from one batch to the next."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "tune-a-video", "times.json")


def machine(device: str) -> str:
    """A name of this machine and the kind of device, as records have it."""
    return f"{platform.node()} {device.partition(':')[0]}"


@dataclass
class StageTimes:
    """Seconds by stage for a step and a pixel, by machine and model.

    Attributes:
        rates: by "MACHINE MODEL", then by stage.
    """

    rates: dict[str, Rates] = field(default_factory=dict)

    @classmethod
    def load(cls) -> StageTimes:
        """What was measured before; nothing if the file is missing or damaged."""
        with suppress(OSError, ValueError):
            read = json.loads(times_file().read_text(encoding="utf-8"))
            if isinstance(read, dict) and all(isinstance(rates, dict) for rates in read.values()):
                return cls(read)
        return cls()

    def save(self) -> None:
        """Keep the times for the next batch; a folder that cannot be written to is no error."""
        with suppress(OSError):
            write_text(times_file(), json.dumps(self.rates, indent=1) + "\n")

    def add(self, record: Record, model: str) -> None:
        """Take the times of a row that ended."""
        pixels = prod(record["size"][:3])
        rates = self.rates.setdefault(f"{record['machine']} {model}", {})
        for stage, seconds in record["seconds"].items():
            if seconds <= 0 or stage == "all":
                continue
            steps = record["steps"][STEPS[stage]] if stage in STEPS else 1
            rate = seconds / (steps * pixels)
            rates[stage] = KEEP * rates.get(stage, rate) + (1 - KEEP) * rate

    def seconds(self, job: EditJob, where: str, model: str, image_size: int) -> tuple[float, float] | None:
        """Seconds of a row: of tuning and inverting its clip, and of the rest. None if nothing was measured.

        Arguments:
            where: the machine, see `machine`.
            model: its name.
            image_size: pixels of the model's own size.
        """
        rates = self.rates.get(f"{where} {model}")
        if not rates or "tune" not in rates:
            return None
        settings = job.settings()
        pixels = job.num_frames * (job.width or image_size) * (job.height or image_size)
        steps = settings.sampling.num_inference_steps * settings.sampling.denoise
        inversion = settings.inversion.num_inference_steps if job.starts_from == "inversion" else 0
        once = settings.tuning.steps * rates["tune"] + inversion * rates.get("invert", rates.get("sample", 0.0))
        each = steps * rates.get("sample", 0.0) + sum(rates.get(stage, 0.0) for stage in ("decode", "evaluate"))
        each += rates.get("deflicker", 0.0) if job.deflickers else 0.0
        return once * pixels, each * pixels
