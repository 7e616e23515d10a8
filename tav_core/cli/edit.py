"""`edit`: a model tuned on a clip, the clip sampled under another prompt, from file to file."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields

from ..atomic import write_text
from ..job import EditJob, run_edit
from .progress import show_progress


def run(args: argparse.Namespace) -> None:
    """Run the job that the options describe, and write its report if one is asked for."""
    job = EditJob(**{field.name: getattr(args, field.name) for field in fields(EditJob)})
    report = run_edit(job, show_progress)
    for trial in report.trials:
        mark = " (taken)" if trial.strength == report.strength else ""
        scores = f"prompt {trial.prompt_score:.3f}, source {trial.source_score:.3f}"
        sys.stdout.write(f"strength {trial.strength:g}: {scores}{mark}\n")
    if job.report is not None:
        write_text(job.report, json.dumps(report.as_json(), indent=2) + "\n")
    sys.stdout.write(f"{job.output}\n")
