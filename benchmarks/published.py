"""Time and memory of the published implementation beside ours and the image UNet, in the same run.

python -m benchmarks.published DIRECTORY PYTHON [--frames 4] [--latent 32] [--rounds 2]

DIRECTORY is a checkout of github.com/showlab/Tune-A-Video; PYTHON an interpreter with diffusers 0.11.1, and best the
same torch, which runs it in a process of its own (`published_worker.py`). CPU and float32 alone. As published, gradient
checkpointing keeps the down path from being trained; "repaired" makes the input require a gradient, so that all is.
It has one checkpointing, beside which our selective one stands too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness, step
from benchmarks.harness import CHECKPOINTING, SAMPLING, SELECTIVE, TUNING, Case

WORKER = Path(__file__).with_name("published_worker.py")
PUBLISHED = {
    SAMPLING: [SAMPLING],
    TUNING: [TUNING],
    SELECTIVE: [f"{SELECTIVE}, repaired"],
    CHECKPOINTING: [f"{CHECKPOINTING}, repaired", f"{CHECKPOINTING}, as published"],
}


class Published:
    """One step of the published implementation, made each time it is called, elsewhere; it returns its CPU seconds."""

    def __init__(self, directory: str, python: str, case: Case, kind: str, **environment: str):
        config = harness.SD15 | harness.TINY if case.tiny else harness.SD15
        request = {"kind": kind, "config": config, "frames": case.frames, "latent": case.latent}
        self.process = subprocess.Popen(
            [python, str(WORKER), directory, json.dumps(request)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment,
        )  # fmt: skip
        self.resident = self._answer()["resident"]
        self.last: dict[str, Any] = {}

    def __call__(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        self.last = self._answer()
        return self.last["seconds"]

    def close(self) -> None:
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The published implementation ended with code {self.process.wait()}; see above.")
        return json.loads(line)


def seconds(where: tuple[str, str], case: Case, kind: str, rounds: int) -> tuple[dict[str, float], dict[str, str]]:
    """Median seconds of image UNet, ours and the published ones, and how many tensors each of these trained."""
    runs: dict[str, Any] = dict(step.builders(case, harness.KINDS[kind]))
    workers = {name: Published(*where, case, name) for name in PUBLISHED[kind]}
    try:
        spent = harness.interleaved(runs | workers, rounds, "cpu")
    finally:
        for worker in workers.values():
            worker.close()
    return spent, {name: "{trained} of {trainable}".format(**worker.last) for name, worker in workers.items()}


def memory(where: tuple[str, str], case: Case, kind: str) -> float:
    """Bytes at the peak of two steps above those before them; freed memory is given back at once, as for ours."""
    worker = Published(*where, case, kind, **harness.GIVE_BACK)
    try:
        for _ in range(2):
            worker()
    finally:
        worker.close()
    return worker.last["peak"] - worker.resident


def measure(where: tuple[str, str], case: Case, rounds: int) -> list[list[str]]:
    rows = []
    for kind, config in harness.KINDS.items():
        spent, trained = seconds(where, case, kind, rounds)
        print(f"{kind}: {spent}", file=sys.stderr)
        before, peak = harness.peak_memory(harness.video_step, case, config)
        for name in PUBLISHED[kind]:
            theirs = memory(where, case, name)
            times = [spent["image"], spent[name], spent["video"]]
            sizes = [theirs, peak - before]
            rows.append(
                [str(case), name, "" if kind == SAMPLING else trained[name], *(f"{time:.2f}" for time in times)]
                + [f"{spent['video'] / spent[name]:.2f}", *(f"{size / 2**20:.0f}" for size in sizes)]
                + [f"{(peak - before) / theirs:.2f}"]
            )
            print(rows[-1], file=sys.stderr)
    return rows


HEAD = [
    "case", "step", "tensors it trains", "image UNet, s", "published, s", "video UNet, s", "against published",
    "published above weights, MiB", "video UNet above weights, MiB", "against published",
]  # fmt: skip


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("directory")
    parser.add_argument("python")
    parser.set_defaults(rounds=2)
    args = parser.parse_args()
    if args.device != "cpu" or args.dtype != "float32":
        parser.error("the published implementation is run on the CPU in float32 alone")
    rows = [row for case in harness.cases(args) for row in measure((args.directory, args.python), case, args.rounds)]
    print(harness.machine())
    print(harness.table(HEAD, rows))


if __name__ == "__main__":
    main()
