"""Write benchmarks/RESULTS.md: a section for each part, which a run replaces."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path

from tav_core.atomic import write_text

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = """# Results

Written by `python -m benchmarks` (`make bench`). `python -m benchmarks KIND PART --help` describes a part.
"""
PARTS = {
    "speed": ("step", "published", "estimate", "fits", "cards", "memory", "scaling", "edit", "cold", "store", "native"),
    "fidelity": ("words", "controls", "editing", "curve", "motion", "others", "reconstruction", "long_clips"),
}
GPU_CHECK = "gpu_check"  # a command of its own, python -m benchmarks.gpu_check, which runs all of its parts
CHECKED = ("precision", "memory", "speed", "fit", "native", "compiled")
HEADINGS = [f"{kind} {part}" for kind, parts in (PARTS | {GPU_CHECK: CHECKED}).items() for part in parts]


def section(kind: str, part: str, options: list[str], printed: str) -> str:
    """Heading, command, date and what the part printed.

    Arguments:
        kind, part: as in `PARTS`, or of the check of a GPU.
        options: of the command line. Paths are left out: an option's name in capitals stands for them.
        printed: the machine, notes and a table.
    """
    named = ["python -m benchmarks.gpu_check"] if kind == GPU_CHECK else ["python -m benchmarks", kind, part]
    command = " ".join([*named, *_without_paths(options)])
    return f"## {kind} {part}\n\n`{command}`, {date.today()}: {printed.strip()}\n"


def _without_paths(options: list[str]) -> list[str]:
    before = ["", *options]
    pairs = zip(before, options, strict=False)
    return [name.lstrip("-").upper() if os.sep in option else option for name, option in pairs]


def merged(old: str, sections: dict[str, str]) -> str:
    """The file `old` with new sections in place of those of the same heading, in the order of `PARTS`."""
    found = re.split(r"(?m)^## (.*)\n", old)[1:]
    kept = {heading: f"## {heading}\n{body.rstrip()}\n" for heading, body in zip(found[::2], found[1::2], strict=True)}
    return "\n".join([TITLE, *((kept | sections)[name] for name in HEADINGS if name in kept | sections)])


def write(kind: str, part: str, section: str, file: Path = RESULTS) -> None:
    """Replace a part's section of the file."""
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    write_text(file, merged(old, {f"{kind} {part}": section}))


def report(machine: str, table: str, *notes: str) -> str:
    """What a part returns: a line on the machine, notes and a table."""
    return "\n".join([machine, *notes]) + f"\n\n{table}\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])
