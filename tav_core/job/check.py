"""What can be checked of a job before anything is loaded."""

from __future__ import annotations

import torch

from ..checks import check_choice, check_device, check_integer, check_number
from ..editing.edit import START_FROM, refuse_source_settings
from ..editing.samplers import sampler_of
from ..presets import CHANGES, PRESETS
from ..unet.adapters import MAX_STRENGTH
from ..unet.low_rank import MAX_RANK
from ..video import check_output
from .job import EditJob
from .options import AUTO


def check_job(job: EditJob) -> None:
    """Check names, numbers, what belongs together and where the output goes.

    Raises:
        OSError, TypeError, ValueError: with the remedy.
    """
    check_choice("preset", job.preset, PRESETS)
    check_choice("start_from", job.starts_from, START_FROM)
    sampler_of(job.sampler, source_branch=job.starts_from == "source_branch")
    check_integer("--lora-rank", job.lora_rank, 0, MAX_RANK)
    _check_source_branch(job)
    _check_more_clips(job)
    _check_controls(job)
    if job.negative_prompt and job.settings().sampling.guide_from_caption:
        raise ValueError(
            "--negative-prompt would have no effect, since this edit is guided away from the caption: add "
            "--no-guide-from-caption, or leave it out."
        )
    if job.starts_from == "noise" and job.settings().sampling.denoise < 1:
        raise ValueError("--start-from noise samples all steps: give --denoise 1, or another start.")
    if job.strength != AUTO:
        check_number("--strength", job.strength, -MAX_STRENGTH, MAX_STRENGTH)
    check_output(job.output)
    if job.heat_maps is not None:
        check_output(job.heat_maps)
    check_device(torch.device(job.device))


def _check_more_clips(job: EditJob) -> None:
    """Check that each clip has its caption."""
    clips, captions = len(job.more_video or ()), len(job.more_source_prompt or ())
    if clips != captions:
        raise ValueError(
            f"--more-video is given {clips} times and --more-source-prompt {captions} times: give one caption for "
            "each clip."
        )
    if clips and job.control and job.control_tuning:
        raise ValueError(
            "A --control holds one clip, and several are tuned on: add --no-control-tuning, and it holds the edit."
        )


def _check_controls(job: EditJob) -> None:
    """Check that each control has a hint, and the numbers of each."""
    controls, hints = job.control or (), job.hint or ()
    if len(controls) != len(hints):
        raise ValueError(
            f"--control is given {len(controls)} times and --hint {len(hints)} times: give one --hint for each."
        )
    for name in ("control_scale", "control_start", "control_end"):
        if len(getattr(job, name) or ()) not in (0, 1, len(controls)):
            raise ValueError(f"--{name.replace('_', '-')} takes one number for all controls, or one for each.")


def _check_source_branch(job: EditJob) -> None:
    """Check what acts in source-preserving edits alone."""
    if job.changes is not None:
        check_choice("changes", job.changes, CHANGES)
    if job.starts_from == "source_branch":
        return
    remedy = "a source-preserving edit: give --start-from source_branch with it."
    if job.mask is not None:
        raise ValueError(f"--mask locks parts of {remedy}")
    if job.changes is not None:
        raise ValueError(f"--changes is of {remedy}")
    refuse_source_settings(job.settings().sampling)
