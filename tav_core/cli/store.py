"""`store`: list, verify or prune the folder of `edit --store`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..checks import check_number
from ..store import Store

MAX_GB = 10**9  # more than any disk has


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the command."""
    parser.add_argument("task", choices=["list", "verify", "prune"], help="prune removes the least recently used")
    parser.add_argument("--store", type=Path, required=True, help="the folder")
    parser.add_argument("--max-gb", type=float, help="size after prune, in gigabytes (default: the store's limit)")


def run(args: argparse.Namespace) -> int:
    """Run the task. Returns 1 if verify finds a damaged entry, else 0.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not args.store.is_dir():
        raise FileNotFoundError(f"There is no store at {args.store}. Give the folder that was given to edit --store.")
    store = Store(args.store)
    if args.task == "list":
        for entry in store.entries():
            sys.stdout.write(f"{entry.path.name}  {entry.num_bytes / 1e6:.1f} MB  {store.describe(entry)}\n")
    elif args.task == "verify":
        faults = store.verify()
        sys.stdout.writelines(f"{fault}\n" for fault in faults)
        sys.stdout.write(f"{len(store.entries())} entries, {len(faults)} of them bad.\n")
        return 1 if faults else 0
    else:
        if args.max_gb is not None:
            check_number("--max-gb", args.max_gb, 0, MAX_GB)
        removed = store.prune(None if args.max_gb is None else round(args.max_gb * 1e9))
        sys.stdout.writelines(f"removed {name}\n" for name in removed)
    return 0
