"""trial.json: what a trial came to, without frames, prompts and paths, so that it may be attached to a public issue.

It is built of named fields that hold numbers and names of choices; nothing of a job, whose fields are prompts and
paths, is copied into it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_text
from .record import Record

FORMAT, VERSION = "tune-a-video-trial", 1
OF_ALL = ("clip", "model", "device", "versions")  # what edits of one trial have in common
OF_EACH = (
    "settings", "lora_rank", "control_tuning", "deflickered", "figures", "seconds", "steps", "loss",
    "reconstruction_snr_db", "peak_memory_bytes", "error",
)  # fmt: skip


def public_report(records: Sequence[Record], name: str) -> dict[str, Any]:
    """What may be shown to anybody.

    Arguments:
        records: of all edits.
        name: of the trial, as `trial_name` draws it.
    """
    made = next((record.values for record in records if not record.failed), {})
    edits = [
        record.edit.choices() | {field: record.values[field] for field in OF_EACH if field in record.values}
        for record in records
    ]
    head = {"format": FORMAT, "version": VERSION, "trial": name}
    shared = {field: made.get(field) for field in OF_ALL}
    return head | shared | {"prompts": len({edit["prompt"] for edit in edits}), "edits": edits}


def trial_name(folder: Path, records: Sequence[Record]) -> str:
    """A name drawn at random, that is kept as long as the edits are the same: 16 hexadecimal digits.

    A digest of the edits would let others test whether a prompt that they guess was among them.

    Raises:
        OSError: if it cannot be written.
    """
    path = folder / "name.json"
    keys = hashlib.sha256("".join(record.key for record in records).encode()).hexdigest()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = None
    if not isinstance(kept, dict) or kept.get("keys") != keys:
        kept = {"name": secrets.token_hex(8), "keys": keys}
        write_text(path, json.dumps(kept) + "\n")
    return str(kept["name"])
