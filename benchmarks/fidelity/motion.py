"""A motion taken from 1 or 4 clips to new figures in new places, from fresh noise, with and without the debiased loss.

    python -m benchmarks fidelity motion [--motions cartwheel roll] [--figures person robot dog] [--seeds 0 1]

Each motion is one that no training picture shows. Its clips show a person, each in another coat at another place, at
its own phase, side and size; they are tuned on in turn, with as many updates for one clip as for four. Fresh noise is
then sampled under a caption whose coat and place no clip shows.

joints: distance in pixels of the joints that a reader net sees from those of the motion, from the hip. Fresh noise is
free in phase, side and size, so those that fit the whole clip best are taken. words: share of frames in which the
reader finds figure, coat and place, means of the three. leaked coat, leaked place: share of frames in which it finds
that of a clip that was tuned on; untuned, that of the first clip, which is chance.

Intervals are 95 %, by a bootstrap over motions. Cells that were measured before are read from
benchmarks/fidelity/cells; with --tables nothing is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import harness, results
from benchmarks.fidelity.cells import CELLS, Cell, Cells
from benchmarks.fidelity.intervals import mean_over_clips, paired_difference
from benchmarks.fidelity.ways import Way
from bundled_model.reader import READER, Reader, load_reader, read
from tav_core import ClipEditor, load_model
from tav_core.demo.world import VOCABULARY, Scene, Words, caption, draw_frames, random_scene
from tav_core.demo.world.figures import stand
from tav_core.demo.world.motion import HELD_OUT
from tav_core.demo.world.skeleton import HIP, NUM_JOINTS
from tav_core.models.base import DEMO_MODEL
from tav_core.presets import BUNDLED

FIRST_SEED = 32_000_000  # of scenes that no other benchmark draws
MOST_CLIPS = 4  # of a motion; two coats and two places are left to ask for
TUNED_ON = {  # by name: clips, and the loss
    "untuned": (0, "published"),
    "1 clip": (1, "published"),
    "1 clip, debiased": (1, "debiased"),
    "4 clips": (4, "published"),
    "4 clips, debiased": (4, "debiased"),
}
PAIRS = (("4 clips", "1 clip"), ("1 clip, debiased", "1 clip"), ("4 clips, debiased", "4 clips"))
FIGURES = ("person", "robot", "dog")  # that are asked for
MEASURES = {"joints": "joints, px", "words": "words", "coat": "leaked coat", "place": "leaked place"}
PHASES, SCALES = 24, (0.7, 1.4)  # that are tried; about the size of a scene's figure


@dataclass(frozen=True)
class MotionClips:
    """Clips of one motion, and the words that are asked for.

    Attributes:
        name: of the motion.
        scenes, words: of each clip.
        asked: coat and place that no clip shows, and the other words of the edits.
    """

    name: str
    scenes: tuple[Scene, ...]
    words: tuple[Words, ...]
    asked: Words

    @classmethod
    def of(cls, name: str) -> MotionClips:
        """The clips of a motion, the same whenever it is called."""
        rng = np.random.default_rng((FIRST_SEED, list(HELD_OUT).index(name)))
        coats, places = (rng.permutation(VOCABULARY[kind]).tolist() for kind in ("coat", "place"))
        scenes: list[Scene] = []
        words: list[Words] = []
        for seed in range(FIRST_SEED, FIRST_SEED + 10_000):
            scene, drawn = random_scene(seed, held_out=True)
            if len(scenes) == MOST_CLIPS:
                break
            if scene.motion == name:
                scenes.append(replace(scene, tempo=1.0, companion=None, in_front=None))
                shown = dict(figure="person", style="flat", coat=coats[len(words)], place=places[len(words)])
                words.append(drawn | shown)
        asked = words[0] | dict(coat=coats[MOST_CLIPS], place=places[MOST_CLIPS])
        return cls(name, tuple(scenes), tuple(words), asked)

    def frames(self, index: int, num_frames: int) -> torch.Tensor:
        """A clip, (f, h, w, 3) in [0, 1]."""
        return torch.from_numpy(draw_frames(self.scenes[index], self.words[index], num_frames)[0])


def joints_of(scene: Scene, words: Words, num_frames: int) -> NDArray[np.float64]:
    """The joints of a scene's figure from its hip, without the camera, (f, j, 2) in pixels."""
    found = []
    for time in range(num_frames):
        pose, foot = scene.pose(words["action"], time), (0.0, scene.row)
        body = stand(words["figure"], words["coat"], pose, scene.proportions, foot, scene.size, scene.direction)
        found.append(body.points[:NUM_JOINTS] - body.points[HIP])
    return np.stack(found)


def motion_error(found: NDArray, scene: Scene, words: Words) -> float:
    """Distance of joints from those of a scene's motion, from the hip, in pixels.

    The mean over joints and frames, at the phase, the side and the one size for the whole clip that fit best.

    Arguments:
        found: joints, (f, j, 2) in pixels.
        words: of the figure that moves.
    """
    seen = found - found[:, HIP : HIP + 1]
    errors = []
    for phase in np.arange(PHASES) / PHASES:
        for direction in (-1, 1):
            true = joints_of(replace(scene, phase=float(phase), direction=direction), words, len(found))
            scale = np.clip((seen * true).sum() / np.square(true).sum(), *SCALES)
            errors.append(np.linalg.norm(seen - scale * true, axis=-1).mean())
    return float(min(errors))


def measure(frames: NDArray, clips: MotionClips, asked: Words, num_clips: int, reader: Reader) -> Cell:
    """The measures of a sampled motion; see the head of this module.

    Arguments:
        frames: (f, h, w, 3) in [0, 1].
        asked: the words of its caption.
        num_clips: that were tuned on.
    """
    words, joints = read(reader, frames)
    cell: Cell = dict(joints=round(motion_error(joints, clips.scenes[0], asked), 3))
    cell["words"] = _share(found[kind] == asked[kind] for found in words for kind in ("figure", "coat", "place"))
    for kind in ("coat", "place"):
        shown = {of_clip[kind] for of_clip in clips.words[: max(1, num_clips)]}
        cell[kind] = _share(found[kind] in shown for found in words)
    return cell


def _share(hits: Iterator[bool]) -> float:
    return round(float(np.mean(list(hits))), 4)


def way_of(name: str, steps: int) -> Way:
    """The settings of one of TUNED_ON."""
    num_clips, loss = TUNED_ON[name]
    tuning = replace(BUNDLED.tuning, steps=steps, loss=loss, clips_in_turn=num_clips > 1) if num_clips else None
    return Way(tuning=tuning, sampling=BUNDLED.sampling_from("noise"), start_from="noise")


def fill(
    name: str, motion: str, figures: list[str], seeds: list[int], reader: Reader, cells: Cells, way: Way
) -> Iterator[Cell]:
    """Measure the cells of a motion that are lacking; each when it is kept."""
    place = list(HELD_OUT).index(motion)
    lacking = [(figure, seed) for figure in figures for seed in seeds if cells.lacks(place, figure, seed)]
    if not lacking:
        return
    clips, (num_clips, _), num_frames = MotionClips.of(motion), TUNED_ON[name], cells.stamp["num_frames"]
    shown = [(clips.frames(index, num_frames), caption(clips.words[index])) for index in range(max(1, num_clips))]
    editor = ClipEditor(load_model(), *shown[0], more_clips=shown[1:])
    if way.tuning is not None:
        for _ in editor.tune(way.tuning):
            pass
    for figure, seed in lacking:
        asked = clips.asked | {"figure": figure}
        *_, last = editor.edit(caption(asked), replace(way.sampling, seed=seed), start_from=way.start_from)
        cell: Cell = dict(clip=place, motion=motion, kind=figure, seed=seed)
        cell |= measure(editor.decode(last.latents).numpy(), clips, asked, num_clips, reader)
        cells.add(cell)
        yield cell


def tables(measured: dict[str, list[Cell]], figures: list[str]) -> str:
    """The measures, with the joints by figure; and differences with their intervals."""
    rows = []
    for name, cells in measured.items():
        by_figure = [[cell for cell in cells if cell["kind"] == figure] for figure in figures]
        joints = [f"{mean_over_clips(part, 'joints').mean:.1f}" if part else "-" for part in by_figure]
        rows.append([name, *joints, *(str(mean_over_clips(cells, measure)) for measure in MEASURES)])
        rows[-1].append(str(len({cell["clip"] for cell in cells})))
    head = ["tuned on", *(f"joints, {figure}" for figure in figures), *MEASURES.values(), "motions"]
    differences = [
        [f"{one} - {other}", *(str(paired_difference(measured[one], measured[other], name)) for name in MEASURES)]
        for one, other in PAIRS
        if one in measured and other in measured
    ]
    parts = [results.table(head, rows)]
    if differences:
        parts += [
            "Differences with their 95 % intervals:",
            results.table(["tuned on", *MEASURES.values()], differences),
        ]
    return "\n\n".join(parts)


def run(arguments: list[str]) -> str:
    """Measure what is lacking, and make the tables."""
    args = _parse(arguments)
    torch.set_num_threads(1)
    measured: dict[str, list[Cell]] = {}
    reader = None if args.tables else load_reader(args.reader)
    for name in args.tuned_on:
        way = way_of(name, args.steps)
        cells = Cells(f"motion {name} {args.steps} steps", way, DEMO_MODEL, args.num_frames, args.cells)
        for motion in args.motions if reader else ():
            for cell in fill(name, motion, args.figures, args.seeds, reader, cells, way):
                print(f"{name} {cell}", flush=True)
        kept = [cell for cell in cells if cell["motion"] in args.motions and cell["kind"] in args.figures]
        measured |= {name: kept} if kept else {}
    return results.report(harness.machine(), tables(measured, args.figures))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--tuned-on", nargs="+", choices=list(TUNED_ON), default=list(TUNED_ON), metavar="NAME")
    parser.add_argument("--motions", nargs="+", choices=list(HELD_OUT), default=list(HELD_OUT), metavar="MOTION")
    parser.add_argument("--figures", nargs="+", choices=VOCABULARY["figure"], default=list(FIGURES), metavar="FIGURE")
    parser.add_argument("--steps", type=int, default=BUNDLED.tuning.steps, help="updates, whatever the number of clips")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the fresh noise")
    parser.add_argument("--reader", type=Path, default=READER, help="as bundled_model.train_reader writes it")
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--cells", type=Path, default=CELLS, help="folder of the cells")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    return parser.parse_args(arguments)
