"""Time and memory of the published implementation beside ours and the image UNet, in the same run.

    python -m benchmarks speed published --directory DIRECTORY --python PYTHON [--frames 4] [--latent 32]

DIRECTORY is a checkout of github.com/showlab/Tune-A-Video; PYTHON an interpreter with diffusers 0.11.1, and best the
same torch, which runs it in a process of its own (`published_worker.py`). CPU and float32 alone. As published, gradient
checkpointing keeps the down path from being trained; "repaired" makes the input require a gradient, so that all of it
is. It has one kind of checkpointing, which our selective one is compared with too. Give --write to write RESULTS.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import CHECKPOINTING, SAMPLING, SELECTIVE, TUNING
from benchmarks.results import report, table
from benchmarks.speed import step, unet
from benchmarks.speed.unet import Case

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
        config = unet.SD15 | unet.TINY if case.tiny else unet.SD15
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
    """Median seconds of the image UNet, ours and the published ones; how many tensors each of the last trained."""
    runs: dict[str, Any] = dict(step.builders(case, harness.KINDS[kind]))
    workers = {name: Published(*where, case, name) for name in PUBLISHED[kind]}
    try:
        spent = harness.interleaved(runs | workers, rounds, "cpu")
    finally:
        for worker in workers.values():
            worker.close()
    return spent, {name: "{trained} of {trainable}".format(**worker.last) for name, worker in workers.items()}


def memory(where: tuple[str, str], case: Case, kind: str) -> float:
    """Bytes at the peak of two steps above those before them, measured as ours are."""
    worker = Published(*where, case, kind, **unet.GIVE_BACK)
    try:
        for _ in range(2):
            worker()
    finally:
        worker.close()
    return worker.last["peak"] - worker.resident


def measure(where: tuple[str, str], case: Case, kind: str, rounds: int) -> list[list[str]]:
    """Rows of the table."""
    spent, trained = seconds(where, case, kind, rounds)
    print(f"{kind}: {spent}", file=sys.stderr)
    before, peak = unet.peak_memory(unet.video_step, case, harness.KINDS[kind])
    rows = []
    for name in PUBLISHED[kind]:
        theirs, ours = memory(where, case, name), peak - before
        times = [f"{spent[which]:.2f}" for which in ("image", name, "video")]
        sizes = [f"{size / 2**20:.0f}" for size in (theirs, ours)]
        count = "" if kind == SAMPLING else trained[name]
        ratios = [f"{spent['video'] / spent[name]:.2f}", f"{ours / theirs:.2f}"]
        rows.append([str(case), name, count, *times, ratios[0], *sizes, ratios[1]])
        print(rows[-1], file=sys.stderr)
    return rows


HEAD = [
    "case", "step", "tensors it trains", "image UNet, s", "published, s", "video UNet, s", "against published",
    "published above weights, MiB", "video UNet above weights, MiB", "against published",
]  # fmt: skip


def run(options: list[str]) -> str:
    parser = unet.parser(__name__, __doc__)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--python", required=True)
    args = parser.parse_args(options)
    if args.device != "cpu" or args.dtype != "float32":
        parser.error("the published implementation is run on the CPU in float32 alone")
    where = args.directory, args.python
    pairs = [(case, kind) for case in unet.cases(args) for kind in harness.KINDS]
    rows = [row for case, kind in pairs for row in measure(where, case, kind, args.rounds)]
    return report(harness.machine(), table(HEAD, rows))
