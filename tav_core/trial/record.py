"""What is known of an edit once it is made, as JSON beside its video; written last, so that a kill leaves none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..job.controls import HINTS
from ..job.files import PATHS, job_values
from ..job.job import EditJob
from ..job.run import versions
from ..models.base import DEMO_MODEL
from .plan import PlannedEdit

PACKAGE = "tune-a-video"  # not installed as one in ComfyUI
READ = ("video", "model", "control", "hint")  # fields of a job that name what it reads


@dataclass(frozen=True)
class Record:
    """What is known of an edit.

    Attributes:
        edit: as it was planned.
        key: see `key_of`.
        values: plain values: "settings", "figures", "seconds", "steps", "reconstruction_snr_db", "peak_memory_bytes",
            "loss", "clip", "model", "device" and "versions", as far as the edit came; "error", its kind, where it
            failed.
        found: whether an earlier run had made it.
    """

    edit: PlannedEdit
    key: str
    values: Mapping[str, Any]
    found: bool = False

    @property
    def failed(self) -> bool:
        return self.values.get("error") is not None


def key_of(job: EditJob, measured_with: Mapping[str, Path | None]) -> str:
    """A digest of all that decides what an edit and its figures come to.

    Files that it reads count by their sizes and times, so that a model of gigabytes is not read to find out that all is
    done.

    Arguments:
        job: the edit.
        measured_with: folders of the learned measures by name; None for those that are left out.
    """
    plain = {name: value for name, value in job_values(job).items() if name not in PATHS}
    read = {name: _stamps(getattr(job, name)) for name in READ}
    learned = {name: _stamps(folder) for name, folder in measured_with.items()}
    return hashlib.sha256(json.dumps([plain, read, learned, versions(PACKAGE)], sort_keys=True).encode()).hexdigest()


def _stamps(given: object) -> Any:
    """Names, sizes and times of the files under a path, or under several; other values as they are."""
    if isinstance(given, (list, tuple)):
        return [_stamps(one) for one in given]
    if given is None or given in (DEMO_MODEL, *HINTS):
        return given
    path = Path(str(given))
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    found = [(file, file.stat()) for file in files]
    return [[file.name, status.st_size, status.st_mtime_ns] for file, status in found]


def write_record(edit: PlannedEdit, key: str, values: Mapping[str, Any]) -> Record:
    """Write what is known of an edit. The video is whole by then.

    Raises:
        OSError: if it cannot be written.
    """
    write_text(edit.record, json.dumps({"key": key, **values}, indent=2) + "\n")
    return Record(edit, key, values)


def read_record(edit: PlannedEdit, key: str) -> Record | None:
    """What an earlier run knew of an edit; None if it did not make it, made another one under its name, or failed."""
    try:
        values = json.loads(edit.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict) or values.pop("key", None) != key or values.get("error") is not None:
        return None
    return Record(edit, key, values, found=True) if edit.video.is_file() else None
