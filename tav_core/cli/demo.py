"""`demo`: the bundled model tuned on the bundled clip, which is edited and measured."""

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
    parser.add_argument("--output", type=Path, default=output, help="folder for videos, pictures and report.json")
    parser.add_argument("--seed", type=int, default=TuningConfig.seed)
    parser.add_argument("--start-from", choices=START_FROM, default=BUNDLED.start_from, help="as for edit")


def run(args: argparse.Namespace) -> None:
    """Run the demo, and print the result of each edit."""
    report = run_demo(args.output, show_progress, args.seed, args.start_from)
    for edit in report["edits"].values():
        psnr = "" if edit["background_psnr"] is None else f", background {edit['background_psnr']:.1f} dB"
        sys.stdout.write(
            f"{edit['prompt']}: {edit['success']:.0%} of frames match the prompt, "
            f"{edit['position_error']:.1f} px from the source's path{psnr}\n"
        )
    sys.stdout.write(f"Finished in {report['seconds']['all']:.0f} s. Look at {args.output / 'comparison.mp4'}.\n")
