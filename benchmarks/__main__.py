"""Run the benchmarks of time and memory and write benchmarks/RESULTS.md: each part with its command, machine and date.

python -m benchmarks [step plan fits memory scaling edit cold]     named parts alone are run, the others' results stay
python -m benchmarks published --published DIRECTORY PYTHON        see benchmarks.published; not run without them
python -m benchmarks cards                                         for a machine with a GPU; not run unless named
"""

from __future__ import annotations

import argparse
import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path

from benchmarks import harness

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Results\n\nWritten by `python -m benchmarks` (`make bench`). Each part's docstring says what it measures.\n"
PARTS = {
    "step": ["--rounds", "2"],
    "published": ["--rounds", "2"],
    "plan": ["--frames", "4", "--latent", "32", "--rounds", "3"],
    "fits": [],
    "cards": [],
    "memory": [],
    "scaling": ["--latent", "32", "--rounds", "1"],
    "edit": [],
    "cold": ["--rounds", "5"],
}


def run(part: str, options: list[str], where: list[str]) -> str:
    """The section of one part: heading, command, and what it printed. `where` the published implementation lies."""
    printed, before = io.StringIO(), sys.argv
    sys.argv = [part, *where, *options]
    try:
        with redirect_stdout(printed):
            runpy.run_module(f"benchmarks.{part}", run_name="__main__")
    finally:
        sys.argv = before
        harness.drawn_weights.cache_clear()
    return section(part, ["DIRECTORY PYTHON"] * bool(where) + options, printed.getvalue())


def section(part: str, options: list[str], printed: str) -> str:
    command = " ".join([f"python -m benchmarks.{part}", *options])
    lines = re.sub(r"(?<![|\n])\n\|", "\n\n|", printed.strip(), count=1)
    return f"## {part}\n\n`{command}`, {date.today()}: {lines}\n"


def merged(old: str, sections: dict[str, str]) -> str:
    """The file with new sections in place of old ones of the same heading, in the order of PARTS."""
    kept = {section.split()[1]: section.strip() + "\n" for section in re.split(r"(?m)^(?=## )", old)[1:]}
    return "\n".join([TITLE, *((kept | sections)[part] for part in PARTS if part in kept | sections)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", choices=list(PARTS), default=[part for part in PARTS if part not in ("published", "cards")]
    )
    parser.add_argument("--published", nargs=2, metavar=("DIRECTORY", "PYTHON"), default=[])
    args = parser.parse_args()
    if "published" in args.parts and not args.published:
        parser.error("the part `published` needs --published DIRECTORY PYTHON")
    for part in args.parts:
        written = run(part, PARTS[part], args.published if part == "published" else [])
        old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
        RESULTS.write_text(merged(old, {part: written}), encoding="utf-8")
        print(written)


if __name__ == "__main__":
    main()
