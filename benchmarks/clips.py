"""What the benchmarks over clips of the demo world share: the clips, their edits, options, records and tables."""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tav_core.demo import shapes as world
from tav_core.demo.run import SAMPLING, TUNING
from tav_core.models.base import DEMO_MODEL

# name in a record -> head of its column, how it is averaged over edits, how it is written
Columns = Mapping[str, tuple[str, Callable[[list[float]], Any], str]]


def random_clip(seed: int, num_frames: int) -> list[world.Scene]:
    rng = np.random.default_rng(seed)
    scene = world.random_scene(rng)
    return world.moving(scene, world.random_path(rng, num_frames, scene.radius))


def random_edits(seed: int, scene: world.Scene) -> dict[str, dict[str, str]]:
    """One edit of each kind, to words other than the scene's own."""
    rng = np.random.default_rng(seed)
    lists = {"colour": tuple(world.COLOURS), "shape": world.SHAPES, "background": tuple(world.BACKGROUNDS)}

    def change(kind: str) -> dict[str, str]:
        return {kind: str(rng.choice([word for word in lists[kind] if word != getattr(scene, kind)]))}

    pair = rng.choice(tuple(lists), size=2, replace=False)
    return {kind: change(kind) for kind in lists} | {"two at once": change(str(pair[0])) | change(str(pair[1]))}


def clip_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark over clips of the demo world."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--tuning-steps", type=int, default=TUNING.steps)
    parser.add_argument("--num-inference-steps", type=int, default=SAMPLING.num_inference_steps)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--store", type=Path, help="folder that keeps tunings and inversions for the next run")
    parser.add_argument("--output", type=Path, help="folder for a contact sheet of each clip and for records.json")
    return parser


def records_of(measure: Callable[[Any], list[dict]], jobs: Iterable[Any], args: argparse.Namespace) -> list[dict]:
    """What `measure` says of each job, in processes of their own; written to records.json after each."""
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
    records: list[dict] = []
    with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
        for result in pool.imap_unordered(measure, jobs):
            records += result
            if args.output:  # after each clip, so that a run that is cut short is not lost
                (args.output / "records.json").write_text(json.dumps(records, indent=1) + "\n")
    return records


def table(records: list[dict], columns: Columns) -> str:
    """A line for each variant and kind of edit, and for "all" edits of a variant; "-" for what is no edit."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for record in records:
        groups.setdefault((record["variant"], record["edit"]), []).append(record)
        if record["edit"] != "-":
            groups.setdefault((record["variant"], "all"), []).append(record)
    heads = " | ".join(head for head, _, _ in columns.values())
    lines = [f"| variant | edit | clips | {heads} |", "|---" * (3 + len(columns)) + "|"]
    for (variant, kind), group in groups.items():
        cells = " | ".join(_cell(group, name, columns) for name in columns)
        lines.append(f"| {variant} | {kind} | {len({r['clip'] for r in group})} | {cells} |")
    return "\n".join(lines)


def _cell(group: list[dict], name: str, columns: Columns) -> str:
    _, average, form = columns[name]
    values = [record[name] for record in group if record.get(name) is not None]
    return form.format(average(values)) if values else "-"
