"""What tuning keeps that no caption names: edit clips with a bystander, with and without tuning.

    python -m benchmarks.unnamed [--clips 20] [--all-variants 5] [--num-frames 16] [--store DIR] [--output DIR]
    python -m benchmarks.unnamed --variants "whole method" "strength 0.75" "temporal positions"

The clips and edits are those of `benchmarks.edits`, but in each clip a second, small object stands still in the corner
that is furthest from the path. Neither caption nor prompt speaks of it, so that the image model alone has no reason to
draw it: whoever keeps it has learnt it from the clip. It counts as kept in a frame if what stands out of the asked
background there overlaps its drawing by half or more (intersection over union).

Sampling is a game of chance over few clips. So the model is also asked directly: how far is its prediction off on the
edit as the world would draw it, bystander kept, under noise and the edit's prompt? This tells models apart with fewer.

For the time that quality takes, some clips are also tuned as published, and by the demo's settings for a quarter of
those steps. The column of seconds is what tuning took, of the processor; with a store, tunings that it holds take none.
What tuning teaches and what it costs in freedom depends on its strength and its length too; these are variants, one
of them the strength that the model itself proposes for each edit, and so are positions for the temporal attention.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch

from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.demo.run import INVERSION, SAMPLING, TUNING, score_edit
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.editing.sampling import SamplingStep
from tav_core.editing.strength import Trial
from tav_core.editor import ClipEditor
from tav_core.evaluation import evaluate
from tav_core.models.base import load_model
from tav_core.models.codec import encode_frames, encode_prompts
from tav_core.store import Store
from tav_core.tuning.config import TuningConfig
from tav_core.viz.figures import contact_sheet, save_picture

from .clips import Columns, clip_parser, random_clip, random_edits, records_of, table

RADIUS = 8.0  # pixels; too small for the judge to take it for the object that the caption names
INSET = 18.0  # pixels from its centre to the two edges of the picture
LEVELS = (150, 300, 450, 600, 750)  # timesteps at which the error on the drawn edit is measured
MAIN = ("whole method", "no tuning")  # for all clips; the others for as many as asked


@dataclass(frozen=True)
class Variant:
    """A way to tune, or None for not at all, and the strength at which the tuning is inverted and sampled with.

    Without a strength, several are tried for each edit and the best is taken, as `--strength auto` does.
    """

    tuning: TuningConfig | None = TUNING
    strength: float | None = 1.0
    positions: bool = False


VARIANTS = {
    "whole method": Variant(),
    "no tuning": Variant(None),
    "tuned as published": Variant(TuningConfig()),
    "a quarter of its steps": Variant(replace(TUNING, steps=TuningConfig.steps // 4)),
    "strength 0.5": Variant(strength=0.5),
    "strength 0.75": Variant(strength=0.75),
    "strength 1.25": Variant(strength=1.25),
    "strength auto": Variant(strength=None),
    "100 steps": Variant(replace(TUNING, steps=100)),
    "200 steps": Variant(replace(TUNING, steps=200)),
    "temporal positions": Variant(positions=True),
}
COLUMNS: Columns = {
    "kept": ("kept", np.mean, "{:.1%}"),
    "overlap": ("overlap", np.mean, "{:.2f}"),
    "drawn_error": ("error on the drawn edit", np.mean, "{:.4f}"),
    "success": ("frames as asked", np.mean, "{:.1%}"),
    "position_error": ("position error, px (median)", np.median, "{:.2f}"),
    "warp_ratio": ("warp error / source's", np.median, "{:.1f}"),
    "seconds": ("tuning, s", np.mean, "{:.0f}"),
}


def bystander(seed: int, scenes: list[world.Scene]) -> world.Scene:
    """The second object of a clip: another colour, any shape, in the corner that the path stays away from."""
    rng = np.random.default_rng(seed)
    shape = str(rng.choice(world.SHAPES))
    colour = str(rng.choice([name for name in world.COLOURS if name != scenes[0].colour]))
    corners = product((INSET, world.SIZE - INSET), repeat=2)
    x, y = max(corners, key=lambda corner: min(np.hypot(corner[0] - s.x, corner[1] - s.y) for s in scenes))
    return world.Scene(shape, colour, scenes[0].background, x, y, RADIUS)


def draw_with(second: world.Scene, scene: world.Scene) -> np.ndarray:
    """A frame with both objects, the bystander behind: (SIZE, SIZE, 3) float32 in [0, 1]."""
    behind, _ = world.draw(second)
    front, mask = world.draw(scene)
    return behind + mask[..., None] * (front - behind)


def overlap(frame: np.ndarray, second: world.Scene, background: str) -> float:
    """Intersection over union of the bystander's drawing and of what stands out of the background around it."""
    there = world.draw_mask(second.shape, second.x, second.y, second.radius) > 0.5
    rows, columns = np.indices(there.shape) + 0.5
    around = np.maximum(np.abs(columns - second.x), np.abs(rows - second.y)) < INSET
    stands_out = np.linalg.norm(frame - world.draw_background(background), axis=-1) > judge.STANDS_OUT
    return float((stands_out & there).sum() / ((stands_out & around) | there).sum())


def prediction_error(editor: ClipEditor, frames: torch.Tensor, prompt: str) -> float:
    """Mean squared error of the model's prediction on a clip under noise, at `LEVELS`, always under the same noise."""
    clip, text = encode_frames(editor.model, frames), encode_prompts(editor.model, [prompt])
    schedule = NoiseSchedule.from_scheduler(editor.model.scheduler)
    generator, errors = torch.Generator().manual_seed(0), []
    for timestep in LEVELS:
        noise = torch.randn(clip.shape, generator=generator)
        with torch.no_grad():
            prediction = editor.video_unet(schedule.add_noise(clip, noise, timestep), timestep, text)
        errors.append(float((prediction - schedule.training_target(clip, noise, timestep)).square().mean()))
    return float(np.mean(errors))


def edit_clip(job: tuple[int, tuple[str, ...]], args: argparse.Namespace) -> list[dict]:
    """All edits of one clip (its seed) under each variant: one record an edit."""
    seed, variants = job
    torch.set_num_threads(1)
    scenes = random_clip(seed, args.num_frames)
    second = bystander(seed, scenes)
    source = torch.from_numpy(np.stack([draw_with(second, scene) for scene in scenes]))
    sampling = replace(SAMPLING, num_inference_steps=args.num_inference_steps)
    inversion = replace(INVERSION, num_inference_steps=args.num_inference_steps)
    records = []
    for name in variants:
        store, variant = Store(args.store) if args.store else None, VARIANTS[name]
        caption, positions = scenes[0].caption, variant.positions
        editor = ClipEditor(load_model(args.model), source, caption, temporal_positions=positions, store=store)
        began, tuning = time.process_time(), variant.tuning
        if tuning is TUNING:
            tuning = replace(tuning, steps=args.tuning_steps)
        for _ in editor.tune(tuning) if tuning else ():
            pass
        seconds = time.process_time() - began
        if variant.strength is not None:
            editor.set_strength(variant.strength)
            for _ in editor.invert(inversion):
                pass
        clips = {caption: source}
        for kind, words in random_edits(seed, scenes[0]).items():
            asked = scenes[0].edited(**words)
            beside = replace(second, background=asked.background)
            drawn = np.stack([draw_with(beside, scene.edited(**words)) for scene in scenes])
            if variant.strength is None:
                last: Trial | SamplingStep = best(
                    list(editor.try_strengths(asked.caption, sampling, inversion=inversion))
                )
            else:
                *_, last = editor.edit(asked.caption, sampling)
            clips[asked.caption] = frames = editor.decode(last.latents)
            overlaps = [overlap(frame, second, asked.background) for frame in frames.numpy()]
            kept = {
                "seconds": seconds,
                "kept": float(np.mean([value >= 0.5 for value in overlaps])),
                "overlap": float(np.mean(overlaps)),
                "drawn_error": prediction_error(editor, torch.from_numpy(drawn), asked.caption),
            }
            score = score_edit(frames.numpy(), source.numpy(), scenes, words)
            figures = evaluate(source, frames, prompt="").figures | asdict(score)
            records.append({"clip": seed, "variant": name, "edit": kind} | kept | figures)
        if args.output:
            save_picture(args.output / f"{seed}-{name.replace(' ', '-')}.png", contact_sheet(clips))
    return records


def main() -> None:
    parser = clip_parser(__doc__)
    parser.add_argument("--all-variants", type=int, default=5, help="how many of the clips run all variants")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="these, for all clips")
    args = parser.parse_args()
    jobs = [
        (args.first_seed + i, tuple(args.variants or (VARIANTS if i < args.all_variants else MAIN)))
        for i in range(args.clips)
    ]
    print(table(records_of(partial(edit_clip, args=args), jobs, args), COLUMNS))


if __name__ == "__main__":
    main()
