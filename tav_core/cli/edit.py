"""`edit`: a model tuned on a clip, the clip sampled under another prompt, from file to file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..editing.config import SOURCE_SETTINGS
from ..job.files import read_job
from ..job.job import EditJob
from ..job.run import run_edit
from ..presets import BUNDLED, CONTENT, PUBLISHED
from .device import add_device
from .progress import show_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for each field of `EditJob`, and --job for all at once."""
    text = "the .job.json beside an edit, which is repeated; options given with it replace its fields"
    parser.add_argument("--job", action=_ReadJob, type=Path, metavar="FILE", default=argparse.SUPPRESS, help=text)
    add_job_options(parser, [option.name for option in fields(EditJob)])


def add_job_options(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """An option for each of these fields of `EditJob`, with its help and its default."""
    for option in fields(EditJob):
        if option.name not in names:
            continue
        argument = dict(option.metadata["argument"])
        if option.name == "device":
            add_device(parser, argument["help"])
            continue
        argument["help"] += _shown_default(option)
        given = {"required": True} if option.default is MISSING else {"default": option.default}
        parser.add_argument(f"--{option.name.replace('_', '-')}", **argument, **given)


def _shown_default(option: Field) -> str:
    """The presets' values of a setting, for its help."""
    if "stages" not in option.metadata:
        return ""
    name, stage = option.metadata["setting"] or option.name, option.metadata["stages"][0]
    if name in (*SOURCE_SETTINGS, "propagate"):
        return " (default: as --changes says)"
    sampling = PUBLISHED.sampling, BUNDLED.source_branch[CONTENT]
    configs = sampling if stage == "sampling" else (getattr(PUBLISHED, stage), getattr(BUNDLED, stage))
    published, bundled = (getattr(config, name) for config in configs)
    if isinstance(published, str):
        return f" (default: {published})"
    shown = "the same" if published is None else f"{published:g}"
    return f" (default: {shown})" if published == bundled else f" (default: {shown}, bundled model: {bundled:g})"


class _ReadJob(argparse.Action):
    """Takes the fields of a job file that are not given as options."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        try:
            job = read_job(values)
        except (OSError, ValueError) as error:
            raise argparse.ArgumentError(self, str(error)) from error
        for name, value in job.items():
            if getattr(namespace, name) == parser.get_default(name):
                setattr(namespace, name, value)
        for action in parser._actions:
            action.required = action.required and action.dest not in job


def run(args: argparse.Namespace) -> None:
    """Run the job that the options describe, and write its report if there is to be one."""
    job = EditJob(**{option.name: getattr(args, option.name) for option in fields(EditJob)})
    report = run_edit(job, show_progress)
    for trial in report.trials:
        mark = " (taken)" if trial.strength == report.strength else ""
        scores = f"prompt {trial.prompt_score:.3f}, source {trial.source_score:.3f}"
        sys.stdout.write(f"strength {trial.strength:g}: {scores}{mark}\n")
    if job.report is not None:
        write_text(job.report, json.dumps(report.as_json(), indent=2) + "\n")
    sys.stdout.write(f"{job.output}\n")
