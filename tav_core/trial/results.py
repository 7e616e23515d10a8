"""What a trial leaves once all its edits are made: trial.json, report.html, preferences.html, contact_sheet.png."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_text
from .page import write_pages
from .preferences import write_preferences
from .public import public_report, trial_name
from .record import Record

PUBLIC = "trial.json"


def write_results(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Write them from the records and the videos in the folder; no model is needed.

    Arguments:
        folder: of the trial.
        records: of all edits, as `run_trial` yields them.

    Returns:
        What is in trial.json.

    Raises:
        OSError: a video cannot be read, or a file cannot be written.
        ValueError: no edit was made.
    """
    made = [record for record in records if not record.failed]
    if not made:
        reason = records[0].values["message"] if records else "none was planned"
        raise ValueError(f"No edit of the trial was made: {reason}")
    name = trial_name(folder, made)
    public = public_report(records, name)
    write_text(folder / PUBLIC, json.dumps(public, indent=2) + "\n")
    write_pages(folder, records, public)
    write_preferences(folder, [record.edit for record in made], name)
    return public
