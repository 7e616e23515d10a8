"""`trial`: each way of editing a clip, tuned and untuned, on one's own weights; a page, a blind comparison, a JSON."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from ..job.job import EditJob
from ..trial.page import REPORT
from ..trial.plan import STRENGTHS, WAYS, plan_trial, read_prompts
from ..trial.preferences import PAGE
from ..trial.record import Record
from ..trial.results import PUBLIC, write_results
from ..trial.run import Measuring, run_trial
from .edit import add_job_options
from .progress import show_progress

SHARED = (  # the options of edit that all edits of a trial have in common
    "video", "source_prompt", "model", "num_frames", "start", "fps", "width", "height", "tuning_steps", "learning_rate",
    "lora_rank", "num_inference_steps", "seed", "control", "hint", "control_scale", "control_start", "control_end",
    "control_tuning", "gradient_checkpointing", "device", "dtype",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the command: its own, and those of edit that its edits share."""
    output = Path("tav-trial")
    parser.add_argument("--prompts", type=Path, required=True, help="a text file, one prompt a line")
    parser.add_argument("--output", type=Path, default=output, help=f"folder, kept to resume (default: {output})")
    ways = f"which ways (default: {' '.join(WAYS)})"
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS), metavar="WAY", help=ways)
    shown = " ".join(f"{strength:g}" for strength in STRENGTHS)
    strengths = f"of the tuning; 0 is the untuned model (default: {shown})"
    parser.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS, metavar="NUMBER", help=strengths)
    add_job_options(parser, SHARED)
    parser.add_argument("--clip", type=Path, help="folder with CLIP, to measure with too; as for evaluate")
    parser.add_argument("--pickscore", type=Path, help="folder with PickScore_v1 and its processor")
    parser.add_argument("--dino", type=Path, help="folder with DINOv2")


def run(args: argparse.Namespace) -> int:
    """Make what the folder lacks, and write the results. Returns 1 if an edit failed, else 0."""
    unset = {"prompt": "", "output": args.output}  # of each edit
    names = [option.name for option in fields(EditJob) if option.name in SHARED]
    job = EditJob(**unset, **{name: getattr(args, name) for name in names})
    edits = plan_trial(job, read_prompts(args.prompts), args.output, ways=args.ways, strengths=args.strengths)
    measuring = Measuring(args.clip, args.pickscore, args.dino)
    records: list[Record] = []
    for record in run_trial(edits, args.output, show_progress, measuring):
        records.append(record)
        outcome = "failed" if record.failed else "made before" if record.found else "made"
        line = f"{len(records)} of {len(edits)}: {record.edit.label}, prompt {record.edit.prompt}: {outcome}"
        sys.stderr.write(f"{line}\n")
    write_results(args.output, records)
    failed = sum(record.failed for record in records)
    sys.stdout.write(
        f"{len(records) - failed} of {len(records)} edits. Open {args.output / PAGE} first, then "
        f"{args.output / REPORT}.\n{args.output / PUBLIC} holds no frames, prompts or paths.\n"
    )
    return 1 if failed else 0
