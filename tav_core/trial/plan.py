"""The edits of a trial: one for each prompt, way and strength, ordered so that neighbours share most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from ..checks import MAX_STEPS, check_choice, check_integer, check_number, check_text
from ..job.check import check_job
from ..job.job import EditJob
from ..presets import CONTENT, LOOK
from ..unet.adapters import MAX_STRENGTH

WAYS: dict[str, dict[str, Any]] = {  # the fields of a job that make each, by the names that Sample Edit shows
    "published": {"start_from": "inversion"},
    "content": {"start_from": "source_branch", "changes": CONTENT},
    "look": {"start_from": "source_branch", "changes": LOOK},
}
STRENGTHS = (1.0, 0.5, 0.0)  # of the tuning: tuned, in between, untuned
MAX_PROMPTS = 100
MAX_BYTES = 10**6  # of the file of prompts
WITHOUT_CONTROL = dict.fromkeys(("control", "hint", "control_scale", "control_start", "control_end"))


@dataclass(frozen=True)
class PlannedEdit:
    """One edit of a trial.

    Attributes:
        prompt: its number, from 1.
        way: of WAYS.
        strength: of the tuning.
        control: whether ControlNets or T2I-Adapters act.
        job: which makes it.
    """

    prompt: int
    way: str
    strength: float
    control: bool
    job: EditJob

    @property
    def label(self) -> str:
        """What a reader calls it, without the prompt."""
        tuned = {1.0: "tuned", 0.0: "not tuned"}.get(self.strength, f"strength {self.strength:g}")
        return f"{self.way}{' with control' if self.control else ''}, {tuned}"

    @property
    def video(self) -> Path:
        return Path(self.job.output)

    @property
    def record(self) -> Path:
        """The file of what is known of it."""
        return self.video.with_suffix(".json")

    def choices(self) -> dict[str, Any]:
        """What sets it apart from the others, as JSON takes it; the prompt by its number."""
        return {"prompt": self.prompt, "way": self.way, "strength": self.strength, "control": self.control}


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: one a line; empty lines, and lines that begin with #, are left out.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it holds none, too many, one twice, or is not in UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: write one prompt a line, and give the file as --prompts.")
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file.read(MAX_BYTES).splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: save it as plain text in UTF-8, one prompt a line.") from error
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise ValueError(f"{path} holds {len(prompts)} prompts: write 1 to {MAX_PROMPTS}, one a line.")
    if len(set(prompts)) < len(prompts):
        raise ValueError(f"{path} holds a prompt twice: take one of them out.")
    for prompt in prompts:
        check_text("a prompt", prompt)
    return prompts


def plan_trial(
    job: EditJob,
    prompts: Sequence[str],
    folder: Path,
    *,
    ways: Sequence[str] = tuple(WAYS),
    strengths: Sequence[float] = STRENGTHS,
) -> list[PlannedEdit]:
    """All edits of a trial, checked before anything is loaded.

    Edits under one control share a tuning, and those of one strength an inversion, so neighbours differ in the prompt
    first, then in the way, the strength and the control.

    Arguments:
        job: what all have in common; its prompt, output, start, strength, store and report are replaced.
        prompts: of the edits.
        folder: of the trial; the store of tunings and inversions is in it too.
        ways: of WAYS.
        strengths: of the tuning; 0 is the untuned model.

    Raises:
        OSError, TypeError, ValueError: with the remedy.
    """
    for way in ways:
        check_choice("--ways", way, list(WAYS))
    for strength in strengths:
        check_number("--strengths", strength, -MAX_STRENGTH, MAX_STRENGTH)
    check_integer("--num-frames", job.num_frames, 2, MAX_STEPS)  # a single frame has no motion to measure
    edits = [
        _planned(job, prompt, number, folder, way, float(strength), control)
        for control in ((False, True) if job.control else (False,))
        for strength in dict.fromkeys(strengths)
        for way in dict.fromkeys(ways)
        for number, prompt in enumerate(prompts, 1)
    ]
    for edit in edits:
        check_job(edit.job)
    return edits


def _planned(
    job: EditJob, prompt: str, number: int, folder: Path, way: str, strength: float, control: bool
) -> PlannedEdit:
    name = f"{number}-{way}{'-control' if control else ''}-{strength:g}"
    files = dict(output=folder / "edits" / f"{name}.mp4", report=folder / "edits" / f"{name}.json")
    changes: dict[str, Any] = files | WAYS[way] | ({} if control else WITHOUT_CONTROL)
    made = replace(job, prompt=prompt, strength=strength, store=folder / "store", **changes)
    return PlannedEdit(number, way, strength, control, made)


def pairs(edits: Sequence[PlannedEdit]) -> list[tuple[PlannedEdit, PlannedEdit]]:
    """All pairs of one prompt that differ in the way, in the strength or in the control, and in that alone."""
    found = []
    for first, second in combinations(edits, 2):
        differ = [getattr(first, name) != getattr(second, name) for name in ("way", "strength", "control")]
        if first.prompt == second.prompt and sum(differ) == 1:
            found.append((first, second))
    return found
