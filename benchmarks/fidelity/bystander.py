"""What tuning preserves though no caption names it: edit clips with a bystander, with and without tuning.

    python -m benchmarks fidelity bystander [--clips 20] [--all-variants 5] [--num-frames 16] [--store DIR]
    python -m benchmarks fidelity bystander --variants "whole method" "strength 0.75" "temporal positions"

The clips and edits are those of `benchmarks fidelity edits`, but in each clip a second, small object stands still in
the corner that is furthest from the path. Neither caption nor prompt names it, so the image model alone has no reason
to draw it: only a model that has learnt it from the clip does. It counts as preserved in a frame if what stands out of
the prompted background there overlaps its drawing by half or more (intersection over union).

Sampling is noisy over few clips. So the model's error is also measured directly, on the edit as the world draws it with
its bystander, under noise and the edit's prompt. This separates models with fewer clips.

For the time that quality takes, some clips are also tuned as published, and by the bundled model's settings for a
quarter of those steps. The column of seconds is what tuning took, of the processor; with a store, tunings that it holds
take none. The other variants are the strength and the length of the tuning, the strength search, and positions for the
temporal attention.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.fidelity.clips import (
    Columns,
    Settings,
    Words,
    clip_parser,
    random_clip,
    random_edits,
    report_of,
)
from tav_core import ClipEditor, TuningConfig, best_trial
from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.demo.run import score_edit
from tav_core.evaluation import evaluate
from tav_core.models.codec import encode_frames, encode_prompts
from tav_core.presets import BUNDLED

RADIUS = 8.0  # pixels; too small for the judge to take it for the object of the caption
INSET = 18.0  # pixels from its centre to the two edges of the picture
LEVELS = (150, 300, 450, 600, 750)  # timesteps at which the error on the drawn edit is measured
MAIN = ("whole method", "no tuning")  # for all clips; the others for as many as --all-variants


@dataclass(frozen=True)
class Variant:
    """A way to tune, or None for not at all, and the strength at which the tuning is inverted and sampled with.

    Without a strength, several are tried for each edit and the best is used, as with `--strength auto`.
    """

    tuning: TuningConfig | None = BUNDLED.tuning
    strength: float | None = 1.0
    positions: bool = False


VARIANTS = {
    "whole method": Variant(),
    "no tuning": Variant(None),
    "tuned as published": Variant(TuningConfig()),
    "a quarter of its steps": Variant(replace(BUNDLED.tuning, steps=TuningConfig.steps // 4)),
    "strength 0.5": Variant(strength=0.5),
    "strength 0.75": Variant(strength=0.75),
    "strength 1.25": Variant(strength=1.25),
    "strength auto": Variant(strength=None),
    "100 steps": Variant(replace(BUNDLED.tuning, steps=100)),
    "200 steps": Variant(replace(BUNDLED.tuning, steps=200)),
    "temporal positions": Variant(positions=True),
}
COLUMNS: Columns = {
    "preserved": ("preserved", np.mean, "{:.1%}"),
    "overlap": ("overlap", np.mean, "{:.2f}"),
    "drawn_error": ("error on the drawn edit", np.mean, "{:.4f}"),
    "success": ("frames as prompted", np.mean, "{:.1%}"),
    "position_error": ("position error, px (median)", np.median, "{:.2f}"),
    "warp_ratio": ("warp error / source's", np.median, "{:.1f}"),
    "seconds": ("tuning, s", np.mean, "{:.0f}"),
}


def bystander(seed: int, scenes: list[world.Scene]) -> world.Scene:
    """The second object of a clip: another colour, any shape, in the corner furthest from the path."""
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


def draw_clip_with(second: world.Scene, scenes: list[world.Scene]) -> Tensor:
    """A clip with both objects: (f, SIZE, SIZE, 3)."""
    return torch.from_numpy(np.stack([draw_with(second, scene) for scene in scenes]))


def overlap(frame: np.ndarray, second: world.Scene, background: str) -> float:
    """Intersection over union of the bystander's drawing and of what stands out of the background around it."""
    there = world.draw_mask(second.shape, second.x, second.y, second.radius) > 0.5
    rows, columns = np.indices(there.shape) + 0.5
    around = np.maximum(np.abs(columns - second.x), np.abs(rows - second.y)) < INSET
    stands_out = np.linalg.norm(frame - world.draw_background(background), axis=-1) > judge.STANDS_OUT
    return float((stands_out & there).sum() / ((stands_out & around) | there).sum())


def prediction_error(editor: ClipEditor, frames: Tensor, prompt: str) -> float:
    """Mean squared error of the model's prediction on a clip under noise, at `LEVELS`, always under the same noise."""
    clip, text = encode_frames(editor.model, frames), encode_prompts(editor.model, [prompt])
    schedule, generator, errors = editor.schedule, torch.Generator().manual_seed(0), []
    for timestep in LEVELS:
        noise = torch.randn(clip.shape, generator=generator)
        with torch.no_grad():
            prediction = editor.video_unet(schedule.add_noise(clip, noise, timestep), timestep, text)
        errors.append(float((prediction - schedule.training_target(clip, noise, timestep)).square().mean()))
    return float(np.mean(errors))


def edit_clip(job: tuple[int, tuple[str, ...]], args: argparse.Namespace) -> list[dict]:
    """All edits of one clip (its seed) under each variant: one record an edit."""
    seed, variants = job
    scenes, settings = random_clip(seed, args.num_frames), Settings(args)
    second = bystander(seed, scenes)
    source, records = draw_clip_with(second, scenes), []
    for name in variants:
        editor, seconds = _tuned(settings, source, scenes[0].caption, VARIANTS[name])
        clips = {scenes[0].caption: source}
        for kind, words in random_edits(seed, scenes[0]).items():
            prompt = scenes[0].edited(**words).caption
            clips[prompt] = frames = _edited(settings, editor, prompt, VARIANTS[name])
            figures = {"seconds": seconds} | _preserved(editor, frames, scenes, second, words)
            figures |= evaluate(source, frames, prompt="").figures
            figures |= asdict(score_edit(frames.numpy(), source.numpy(), scenes, words))
            records.append({"clip": seed, "variant": name, "edit": kind} | figures)
        settings.save_sheet(seed, name, clips)
    return records


def _tuned(settings: Settings, source: Tensor, caption: str, variant: Variant) -> tuple[ClipEditor, float]:
    """An editor that has tuned the clip, and inverted it at the variant's strength; seconds of the tuning."""
    editor = settings.editor(source, caption, temporal_positions=variant.positions)
    began, tuning = time.process_time(), variant.tuning
    if tuning is not None:
        harness.last(editor.tune(settings.tuning(tuning) if tuning is BUNDLED.tuning else tuning))
    seconds = time.process_time() - began
    if variant.strength is not None:
        editor.set_strength(variant.strength)
        harness.last(editor.invert(settings.inversion))
    return editor, seconds


def _edited(settings: Settings, editor: ClipEditor, prompt: str, variant: Variant) -> Tensor:
    """The frames of an edit, by the strength search where the variant has no strength."""
    sampling = settings.sampling()
    if variant.strength is None:
        found = best_trial(list(editor.try_strengths(prompt, sampling, inversion=settings.inversion)))
    else:
        found = harness.last(editor.edit(prompt, sampling))
    return editor.decode(found.latents)


def _preserved(
    editor: ClipEditor, frames: Tensor, scenes: list[world.Scene], second: world.Scene, words: Words
) -> dict[str, float]:
    """What an edit preserves of the bystander, and the model's error on the edit as drawn."""
    edited = [scene.edited(**words) for scene in scenes]
    overlaps = [overlap(frame, second, edited[0].background) for frame in frames.numpy()]
    drawn = draw_clip_with(replace(second, background=edited[0].background), edited)
    return {
        "preserved": float(np.mean([value >= 0.5 for value in overlaps])),
        "overlap": float(np.mean(overlaps)),
        "drawn_error": prediction_error(editor, drawn, edited[0].caption),
    }


def run(options: list[str]) -> str:
    parser = clip_parser(__name__, __doc__)
    parser.add_argument("--all-variants", type=int, default=5, help="how many of the clips run all variants")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="these, for all clips")
    args = parser.parse_args(options)
    jobs = [
        (args.first_seed + i, tuple(args.variants or (VARIANTS if i < args.all_variants else MAIN)))
        for i in range(args.clips)
    ]
    return report_of(edit_clip, jobs, args, COLUMNS)
