"""The commands of `python -m tav_core`: demo, edit, batch, trial, evaluate, export and store, one module each."""

from __future__ import annotations

import argparse
import sys
from io import TextIOWrapper

from transformers.utils.logging import disable_progress_bar

from ..memory.budget import ran_out_of_memory
from . import batch, demo, edit, evaluate, export, store, trial

COMMANDS = {  # modules with `add_arguments` and `run`, and what they do
    "demo": (demo, "tune the bundled model on the bundled clip, edit it five times, judge"),
    "edit": (edit, "tune a model on a clip and sample the clip under another prompt"),
    "batch": (batch, "run a table of edits on one machine, a Ray cluster or ComfyUI servers"),
    "trial": (trial, "try each way on a clip and weights of your own; a page to compare, a JSON to share"),
    "evaluate": (evaluate, "measure an edit, or all edits of a data set; write a page"),
    "export": (export, "write a tuning as a LoRA, or its temporal part, for other programs"),
    "store": (store, "list, verify or prune the folder of edit --store"),
}
MEMORY_IS_FULL = (
    "The device's memory is full: close what else uses it, take fewer or smaller frames, or give --device cpu."
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 after an error, with one sentence on standard error; 130 after an interruption.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # a pipe on Windows may lack characters of a file name
        sys.stdout.reconfigure(errors="backslashreplace")
    args = parser().parse_args(arguments)
    disable_progress_bar()  # of loading weights
    try:
        status: int | None = args.run(args)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 130
    except (ValueError, OSError, FloatingPointError, MemoryError) as error:
        sys.stderr.write(f"{str(error) or MEMORY_IS_FULL}\n")  # Python's own MemoryError has no message
        return 1
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        sys.stderr.write(f"{MEMORY_IS_FULL}\n")
        return 1
    return status or 0


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    made = argparse.ArgumentParser(prog="python -m tav_core", description="Tune-A-Video: edit one clip by its caption.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        command.set_defaults(run=module.run)
        module.add_arguments(command)
    return made
