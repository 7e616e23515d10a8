"""`demo`: the bundled model tuned on the bundled clip, which is edited and judged."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..demo.run import run_demo
from ..editing.edit import START_FROM
from ..presets import BUNDLED
from ..tuning.config import TuningConfig
from .progress import show_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the command."""
    output = Path("tav-demo")
    parser.add_argument("--output", type=Path, default=output, help="folder for report.html, report.json and videos")
    parser.add_argument("--seed", type=int, default=TuningConfig.seed)
    parser.add_argument("--start-from", choices=START_FROM, default=BUNDLED.start_from, help="as for edit")


def run(args: argparse.Namespace) -> None:
    """Run the demo, and print the result of each edit."""
    report = run_demo(args.output, show_progress, seed=args.seed, start_from=args.start_from)
    untuned = report["tuning"]["untuned"]
    for edit in (*report["edits"].values(), untuned):
        name = f"{edit['prompt']} (not tuned)" if edit is untuned else edit["prompt"]
        strict, loose = (f"{100 * edit[measure]:.0f} %" for measure in ("strict", "loose"))
        sys.stdout.write(f"{name}: {strict} of frames are right, loosely judged {loose}\n")
    sys.stdout.write(
        f"Reconstruction: {report['reconstruction_psnr']:.1f} dB; "
        f"the autoencoder alone: {report['round_trip_psnr']:.1f} dB.\n"
        f"Finished in {report['seconds']['all']:.0f} s. Open {args.output / 'report.html'} in a browser.\n"
    )
