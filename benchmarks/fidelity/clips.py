"""What benchmarks over clips of the drawn world share: clips, their edits, options, editors, records and tables."""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness, results
from tav_core import ClipEditor, InversionConfig, SamplingConfig, Store, TuningConfig, load_model
from tav_core.demo import shapes as world
from tav_core.models.base import DEMO_MODEL
from tav_core.presets import BUNDLED
from tav_core.viz.figures import contact_sheet, save_picture

# name in a record -> head of its column, how it is averaged over edits, how it is written
Columns = Mapping[str, tuple[str, Callable[[list[float]], Any], str]]
Words = dict[str, str]  # what an edit changes, as `Scene.edited` takes it


@dataclass(frozen=True)
class Settings:
    """The bundled model's settings under a benchmark's options, and an editor for each clip.

    Attributes:
        args: the options of `clip_parser`.
    """

    args: argparse.Namespace

    def tuning(self, config: TuningConfig = BUNDLED.tuning) -> TuningConfig:
        return replace(config, steps=self.args.tuning_steps)

    @cached_property
    def inversion(self) -> InversionConfig:
        return replace(BUNDLED.inversion, num_inference_steps=self.args.num_inference_steps)

    def sampling(self, config: SamplingConfig = BUNDLED.sampling, **changes: float) -> SamplingConfig:
        return replace(config, num_inference_steps=self.args.num_inference_steps, **changes)

    def editor(self, frames: Tensor, caption: str, **inflation: Any) -> ClipEditor:
        """On a clip's frames (f, h, w, 3) in [0, 1], with one thread. inflation: as `ClipEditor` takes it."""
        torch.set_num_threads(1)
        store = Store(self.args.store) if self.args.store else None
        return ClipEditor(load_model(self.args.model), frames, caption, store=store, **inflation)

    def save_sheet(self, seed: int, name: str, clips: dict[str, Tensor]) -> None:
        """Write a contact sheet of the clips by their prompts, where the options have a folder for it."""
        if self.args.output:
            save_picture(self.args.output / f"{seed}-{name.replace(' ', '-')}.png", contact_sheet(clips))


def random_clip(seed: int, num_frames: int) -> list[world.Scene]:
    rng = np.random.default_rng(seed)
    scene = world.random_scene(rng)
    return world.moving(scene, world.random_path(rng, num_frames, scene.radius))


def random_edits(seed: int, scene: world.Scene) -> dict[str, Words]:
    """One edit of each kind, to words other than the scene's own."""
    rng = np.random.default_rng(seed)
    lists = {"colour": tuple(world.COLOURS), "shape": world.SHAPES, "background": tuple(world.BACKGROUNDS)}

    def change(kind: str) -> Words:
        return {kind: str(rng.choice([word for word in lists[kind] if word != getattr(scene, kind)]))}

    pair = rng.choice(tuple(lists), size=2, replace=False)
    return {kind: change(kind) for kind in lists} | {"two at once": change(str(pair[0])) | change(str(pair[1]))}


def draw_clip(scenes: list[world.Scene], words: Words | None = None) -> Tensor:
    """A clip as the world draws it, under other words if given: (f, h, w, 3) in [0, 1]."""
    return torch.from_numpy(np.stack([world.draw(scene.edited(**(words or {})))[0] for scene in scenes]))


def clip_parser(part: str, description: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark over clips of the drawn world."""
    parser = harness.parser(part, description)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--tuning-steps", type=int, default=BUNDLED.tuning.steps)
    parser.add_argument("--num-inference-steps", type=int, default=BUNDLED.sampling.num_inference_steps)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--store", type=Path, help="folder of tunings and inversions, for the next run too")
    parser.add_argument("--output", type=Path, help="folder for a contact sheet of each clip and for records.json")
    return parser


def report_of(
    measure: Callable[[Any, argparse.Namespace], list[dict]],
    jobs: Iterable[Any],
    args: argparse.Namespace,
    columns: Columns,
) -> str:
    """The text of a part: what `measure` makes of each job, in processes of their own, as a table.

    With a folder for output, the records are written to its records.json after each job, so that a run that is cut
    short is not lost.
    """
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
    records: list[dict] = []
    with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
        for result in pool.imap_unordered(partial(measure, args=args), jobs):
            records += result
            if args.output:
                (args.output / "records.json").write_text(json.dumps(records, indent=1) + "\n")
    return results.report(harness.machine(), table(records, columns))


def table(records: list[dict], columns: Columns) -> str:
    """A line for each variant and kind of edit, and for "all" edits of a variant; "-" for what is no edit."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for record in records:
        groups.setdefault((record["variant"], record["edit"]), []).append(record)
        if record["edit"] != "-":
            groups.setdefault((record["variant"], "all"), []).append(record)
    rows = [
        [*names, str(len({record["clip"] for record in group})), *(_cell(group, name, columns) for name in columns)]
        for names, group in groups.items()
    ]
    return results.table(["variant", "edit", "clips", *(head for head, _, _ in columns.values())], rows)


def _cell(group: list[dict], name: str, columns: Columns) -> str:
    _, average, form = columns[name]
    values = [record[name] for record in group if record.get(name) is not None]
    return form.format(average(values)) if values else "-"
