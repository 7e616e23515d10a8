"""Run benchmarks and write their tables into benchmarks/RESULTS.md, each with its command, machine and date.

    python -m benchmarks                                    the parts of speed that need no GPU and no other code
    python -m benchmarks speed step fits                    named parts
    python -m benchmarks speed step --frames 8              with options: prints the table; --write writes it too
    python -m benchmarks fidelity                           all parts of fidelity, which takes hours
    python -m benchmarks fidelity controls --help           what a part measures, and its options

speed: step published estimate fits cards memory scaling edit cold store native
fidelity: words controls editing curve motion others reconstruction long_clips

A run replaces the sections of its parts in RESULTS.md and leaves the others. Set OMP_NUM_THREADS=1 for speed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import takewhile

from benchmarks import results

NAMED_ALONE = ("published", "others", "cards", "native")  # these need other code, or a GPU
WRITE = "--write"  # a section made with options


def parse(words: list[str]) -> tuple[str, list[str], list[str]]:
    """The kind, the parts and the options of a command line.

    Raises:
        SystemExit: an unknown kind or part.
    """
    kind, *rest = words if words and words[0] in results.PARTS else ["speed", *words]
    named = list(takewhile(lambda word: not word.startswith("-"), rest))
    unknown = [part for part in named if part not in results.PARTS[kind]]
    if unknown or (not named and {"-h", "--help"} & set(rest)):
        raise SystemExit("\n".join([*(f"No part of {kind} is named {part}." for part in unknown), str(__doc__)]))
    return kind, named or [part for part in results.PARTS[kind] if part not in NAMED_ALONE], rest[len(named) :]


def main() -> None:
    kind, parts, options = parse(sys.argv[1:])
    given = [option for option in options if option != WRITE]
    for part in parts:
        printed = import_module(f"benchmarks.{kind}.{part}").run(given)
        section = results.section(kind, part, given, printed)
        print(section)
        if WRITE in options or not given:
            results.write(kind, part, section)


if __name__ == "__main__":
    main()
