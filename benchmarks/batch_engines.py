"""60 edits of the stage world over 12 clips by each engine: the frames, and what an engine costs beside the edits.

    python -m benchmarks.batch_engines OUTPUT [--ray ADDRESS] [--comfyui URL URL]

Frames are compared by SHA-256 before encoding, and with those of ComfyUI servers as they come out of lossless video.
The overhead is counted in seconds of the processor, so that other work on the machine does not show: the rows of all
clips but the first, by driver and worker, beside the same edits made one after the other in one process that keeps
model and clip. The shell loop runs `edit --job` for the rows of the first clip.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tav_core import read_video, write_video
from tav_core.demo import world

CLIPS, EDITS, FRAMES = 12, 5, 4
COATS, PLACES = world.VOCABULARY["coat"], world.VOCABULARY["place"]
SETTINGS = {"num_frames": FRAMES, "width": 64, "height": 64, "tuning_steps": 10, "num_inference_steps": 5}
FIRST = 7000  # the seed of the first scene


def make_table(folder: Path, clips: int = CLIPS, edits: int = EDITS) -> Path:
    """Clips of the stage world, and a table of their edits: other coats, other places, and the other style."""
    rows = []
    for seed in range(FIRST, FIRST + clips):
        scene, words = world.random_scene(seed)
        frames = torch.from_numpy(world.draw_frames(scene, words, FRAMES)[0])
        write_video(folder / f"{seed}.mkv", frames, 8)
        coats = [coat for coat in COATS if coat != words["coat"]]
        places = [place for place in PLACES if place != words["place"]]
        style = next(style for style in world.VOCABULARY["style"] if style != words["style"])
        changes: list[dict[str, str]] = [{"coat": coats[0]}, {"place": places[0]}, {"style": style}]
        changes += [{"coat": coats[1]}, {"coat": coats[2], "place": places[1]}]
        for number, change in enumerate(changes[:edits]):
            words_of = {"source_prompt": world.caption(words), "prompt": world.caption(words | change)}
            rows.append({"name": f"{seed}/{number}", "video": f"{seed}.mkv", **words_of, **SETTINGS})
    table = folder / "edits.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


@dataclass(frozen=True)
class Run:
    """A batch that ended. Attributes: status, of exit; seconds, of the clock and of the processor; records, by name."""

    status: int
    clock: float
    processor: float
    records: dict[str, dict[str, Any]]


def run(table: Path, output: Path, *options: str) -> Run:
    """The command over a table, with one thread a worker and lossless videos."""
    command = [sys.executable, "-m", "tav_core", "batch", "--table", str(table), "--output", str(output)]
    command += ["--suffix", ".mkv", "--threads", "1", "--device", "cpu", "--log-format", "json", *options]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    status = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(status, time.monotonic() - began, spent, records_of(output))


def records_of(output: Path) -> dict[str, dict[str, Any]]:
    """The records of all rows of an output, by name."""
    found = [json.loads(path.read_text()) for path in sorted(output.rglob("*.result.json"))]
    return {record["name"]: record for record in found}


def num_tunings(run: Run) -> int:
    """How many rows tuned."""
    return sum(record["seconds"].get("tune", 0) > 0 for record in run.records.values())


def same_frames(first: Run, second: Run) -> int:
    """How many rows have the same frames before encoding, bit by bit."""
    hashes = [{name: record.get("frames_sha256") for name, record in run.records.items()} for run in (first, second)]
    return sum(found is not None and found == hashes[1].get(name) for name, found in hashes[0].items())


def least_psnr(first: Path, second: Path, names: list[str]) -> float:
    """The least peak signal-to-noise ratio between two outputs' videos of the same names, in dB."""
    worst = 0.0
    for name in names:
        frames = [read_video(folder / f"{name}.mkv", num_frames=FRAMES).frames for folder in (first, second)]
        worst = max(worst, float((frames[0] - frames[1]).square().mean()))
    return float("inf") if worst == 0 else -10 * np.log10(worst)


def alone(table: Path, output: Path) -> dict[str, float]:
    """Seconds of the processor of each edit by name, made one after the other in this process, with its figures."""
    from tav_batch.jobs import Rows
    from tav_batch.table import read_table
    from tav_core import run_edit
    from tav_core.evaluation import Encoders, evaluate
    from tav_core.job.runner import KeptForNext
    from tav_core.store import Store

    torch.set_num_threads(1)
    rows, kept, learned, seconds = Rows(*read_table(str(table))), KeptForNext(Store(output / "store")), Encoders(), {}
    for number in range(len(rows.rows)):
        name, began = rows.name_of(number), time.process_time()
        path = output / f"{name}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        report = run_edit(rows.job(number, path), kept=kept)
        evaluate(report.source, report.edit, report.job.prompt, report.job.source_prompt, learned)
        seconds[name] = time.process_time() - began
    return seconds


def loop(output: Path, names: list[str]) -> tuple[float, float]:
    """Seconds of the clock and of the processor of a shell loop over the jobs of a batch's rows."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for number, name in enumerate(names):
        command = [sys.executable, "-m", "tav_core", "edit", "--job", str(output / f"{name}.job.json")]
        command += ["--output", str(output / f"loop-{number}.mkv")]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def busy_share(output: Path) -> float:
    """The share of the workers' time that they spend in rows: of each from the end of its first row on.

    What is left is the hand-over of rows, their records, and the wait for the last row of others.
    """
    ends: dict[int, list[tuple[float, float]]] = {}  # by process: the end of a row, and its seconds
    for path in output.rglob("*.result.json"):
        record = json.loads(path.read_text())
        ends.setdefault(record["process"], []).append((path.stat().st_mtime, record["seconds"]["all"]))
    last = max(end for rows in ends.values() for end, _ in rows)
    inside = sum(seconds for rows in ends.values() for _, seconds in sorted(rows)[1:])
    return inside / sum(last - min(rows)[0] for rows in ends.values())


def overhead(output: Path, clips: int) -> str:
    """What the engine takes beside the edits, and the shell loop beside it."""
    names = [f"{seed}/{number}" for seed in range(FIRST, FIRST + clips) for number in range(EDITS)]
    small, large = output / "first clip", output / "clips"
    for folder in (small, large):
        folder.mkdir(parents=True)
    first = run(make_table(small, 1), small / "out", "--workers", "1")
    table = make_table(large, clips)
    whole = run(table, large / "out", "--workers", "1")
    single = sum(alone(table, output / "alone")[name] for name in names[EDITS:])
    inside = whole.processor - first.processor
    clock, processor = loop(small / "out", names[:EDITS])
    return (
        f"{len(names) - EDITS} edits: {inside:.1f} s of the processor in a batch, {single:.1f} s one after the other "
        f"with the model loaded: {100 * (inside / single - 1):.1f} % more.\n"
        f"The first {EDITS}: {first.processor:.1f} s of the processor and {first.clock:.1f} s of the clock in a batch, "
        f"{processor:.1f} s and {clock:.1f} s in a shell loop."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--ray", metavar="ADDRESS", help="of a cluster")
    parser.add_argument("--comfyui", nargs="+", metavar="URL", help="servers with the node pack")
    parser.add_argument("--overhead", type=int, metavar="CLIPS", help="measure what the engine costs, over CLIPS")
    args = parser.parse_args()
    args.output.mkdir(parents=True)
    if args.overhead:
        print(overhead(args.output, args.overhead), flush=True)
        return
    table = make_table(args.output)
    engines = {"one worker": ("--workers", "1"), "two workers": ("--workers", "2")}
    engines |= {"Ray": ("--ray", args.ray)} if args.ray else {}
    engines |= {"ComfyUI": ("--comfyui", *args.comfyui)} if args.comfyui else {}
    runs: dict[str, Run] = {}
    for name, options in engines.items():
        made = runs[name] = run(table, args.output / name, *options)
        line = f"{name}: exit {made.status}, {num_tunings(made)} tunings, {made.clock:.0f} s of the clock"
        if "worker" in name:
            line += f", {made.processor:.0f} s of the processor, {100 * busy_share(args.output / name):.1f} % in rows"
        first = runs["one worker"]
        if name == "ComfyUI":
            line += f", {least_psnr(args.output / 'one worker', args.output / name, [*first.records]):.1f} dB at least"
        else:
            line += f", {same_frames(first, made)} of {len(first.records)} with the same frames"
        print(line, flush=True)


if __name__ == "__main__":
    main()
