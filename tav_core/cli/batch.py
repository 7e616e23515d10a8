"""`batch`: many edits. The command is in `tav_batch/`, beside this package; the published node pack leaves it out."""

from __future__ import annotations

import argparse
import sys

try:
    from tav_batch import cli as found
except ModuleNotFoundError as error:
    if error.name != "tav_batch":
        raise
    found = None  # type: ignore[assignment]
ABSENT = (
    "The command batch is not part of the node pack: clone the project's repository and run it there, after "
    "pip install '.[batch]'."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the command; without the package, any."""
    if found is not None:
        found.add_arguments(parser)
        return
    parser.prefix_chars = "\0"  # options are no options then, and cannot be unknown
    parser.add_argument("arguments", nargs=argparse.REMAINDER)


def run(args: argparse.Namespace) -> int:
    """Run the batch. Returns the exit status: 0 only if all rows succeeded."""
    if found is None:
        sys.stderr.write(f"{ABSENT}\n")
        return 1
    return found.run(args)
