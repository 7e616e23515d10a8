"""Check on a GPU what only a GPU can show, in ten minutes at most.

    make gpu-check
    python -m benchmarks.gpu_check [--output gpu-check.json] [--device cuda] [--small] [--write]

It prints the tables for benchmarks/RESULTS.md, and --write writes them there. Run again, it goes on where it stopped.
Where there is no GPU, it runs on small models on the CPU, which shows no more than that the check works.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch

from benchmarks import results
from benchmarks.gpu_check import driver
from benchmarks.gpu_check.setting import Setting
from tav_core.checks import check_device


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "python -m benchmarks.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--output", type=Path, default=Path("gpu-check.json"), help="what was found; kept to resume")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--small", action="store_true", help="small models; always so on a CPU")
    made.add_argument("--minutes", type=float, default=driver.TOTAL / 60, help="for all parts together")
    made.add_argument("--write", action="store_true", help="write the tables of what was done into RESULTS.md")
    made.add_argument("--part", choices=tuple(driver.LIMITS), help="run one part in this process, and print its JSON")
    return made


def main(words: list[str] | None = None) -> int:
    """Returns 1 if a part failed, else 0."""
    args = parser().parse_args(words)
    setting = Setting(args.device, small=args.small or torch.device(args.device).type != "cuda")
    try:
        check_device(torch.device(args.device))
        check = driver.Check.load(args.output, setting) if args.part is None else None
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if check is None:
        with redirect_stdout(sys.stderr):  # of libraries: the outcome is the last line
            outcome = driver.here(args.part, setting)
        print(json.dumps(outcome))
        return 0
    for name in driver.run(check, 60 * args.minutes):
        outcome = check.parts[name]
        print(f"{name}: {outcome['status']}, {outcome['seconds']:.0f} s", file=sys.stderr)
    line = check.setting.machine()["line"]
    for name, text in check.tables().items():
        section = results.section(results.GPU_CHECK, name, [], results.report(line, text))
        print(section)
        if args.write and check.parts[name]["status"] == driver.DONE:
            results.write(results.GPU_CHECK, name, section)
    print(args.output)
    return int(any(outcome["status"] == driver.FAILED for outcome in check.parts.values()))


if __name__ == "__main__":
    sys.exit(main())
