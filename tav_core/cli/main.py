"""The commands: `python -m tav_core demo`, `edit`, `evaluate` and `store`."""

from __future__ import annotations

import argparse
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from ..checks import check_number
from ..demo.run import run_demo
from ..editing.edit import START_FROM
from ..memory.budget import ran_out_of_memory
from ..presets import BUNDLED
from ..store import Store
from ..tuning.config import TuningConfig
from . import edit as edit_command
from . import evaluate as evaluation
from .progress import show_progress

MOST_GB = 10**9  # no disk has as many
MEMORY_IS_FULL = (
    "The device's memory is full: close what else uses it, take fewer or smaller frames, or give --device cpu."
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 after bad input, with one sentence on standard error; 130 if it was stopped."""
    if isinstance(sys.stdout, TextIOWrapper):  # a pipe of Windows may lack letters of a name that is to be written
        sys.stdout.reconfigure(errors="backslashreplace")
    args = parser().parse_args(arguments)
    disable_progress_bar()  # of loading weights; ours shows the long parts
    try:
        status: int | None = args.run(args)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 130
    except (ValueError, OSError, FloatingPointError, MemoryError) as error:
        sys.stderr.write(f"{str(error) or MEMORY_IS_FULL}\n")  # Python's own MemoryError has no words
        return 1
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        sys.stderr.write(f"{MEMORY_IS_FULL}\n")
        return 1
    return status or 0


def _demo(args: argparse.Namespace) -> None:
    report = run_demo(args.output, show_progress, args.seed, args.start_from)
    for edit in report["edits"].values():
        kept = "" if edit["background_psnr"] is None else f", background {edit['background_psnr']:.1f} dB"
        sys.stdout.write(
            f"{edit['prompt']}: {edit['success']:.0%} of frames as asked, "
            f"{edit['position_error']:.1f} px from the source's path{kept}\n"
        )
    sys.stdout.write(f"Finished in {report['seconds']['all']:.0f} s. Look at {args.output / 'comparison.mp4'}.\n")


def _store(args: argparse.Namespace) -> int:
    if not args.store.is_dir():
        raise FileNotFoundError(f"There is no store at {args.store}. Give the folder that was given to edit --store.")
    store = Store(args.store)
    if args.task == "list":
        sys.stdout.writelines(
            f"{entry.path.name}  {entry.num_bytes / 1e6:.1f} MB  {store.about(entry)}\n" for entry in store.entries()
        )
    elif args.task == "prune":
        if args.max_gb is not None:
            check_number("--max-gb", args.max_gb, 0, MOST_GB)
        removed = store.prune(None if args.max_gb is None else round(args.max_gb * 1e9))
        sys.stdout.writelines(f"removed {name}\n" for name in removed)
    else:
        faults = store.verify()
        sys.stdout.writelines(f"{fault}\n" for fault in faults)
        sys.stdout.write(f"{len(store.entries())} entries, {len(faults)} of them bad.\n")
        return 1 if faults else 0
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    made = argparse.ArgumentParser(prog="python -m tav_core", description="Tune-A-Video: edit one clip by its caption.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "tune the bundled model on the bundled clip, edit it four times, measure")
    demo.add_argument(
        "--output", type=Path, default=Path("tav-demo"), help="folder for videos, pictures and report.json"
    )
    demo.add_argument("--seed", type=int, default=TuningConfig.seed)
    demo.add_argument("--start-from", choices=START_FROM, default=BUNDLED.start_from, help="as for edit")

    edit = _command(
        commands, "edit", edit_command.run, "tune a model on a clip and sample the clip under another prompt"
    )
    edit_command.add_arguments(edit)

    measure = _command(
        commands, "evaluate", evaluation.run, "measure an edit, or all edits of a data set; write a page"
    )
    evaluation.add_arguments(measure)

    store = _command(commands, "store", _store, "look after the folder that edit --store keeps its results in")
    store.add_argument("task", choices=["list", "verify", "prune"], help="prune removes the least recently used")
    store.add_argument("--store", type=Path, required=True, help="the folder")
    store.add_argument("--max-gb", type=float, help="gigabytes that prune leaves at most (default: the store's limit)")
    return made


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.set_defaults(run=run)
    return command
