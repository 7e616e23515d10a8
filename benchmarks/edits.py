"""Edit clips of the demo world whose truth is known, with the whole method and with one part of it left out.

    python -m benchmarks.edits [--clips 20] [--ablation-clips 20] [--num-frames 16] [--output DIR]

Each clip is a random scene on a random path, edited four times (colour, shape, background, two words at once).
The whole method has the demo's settings: tuned and sampled below the level where the bundled model's schedule carries
no signal. "published range" tunes over the whole schedule and starts from the fully inverted clip. Ablation as in the
paper's figure 8: no tuning, no inversion (plain noise), no sparse-causal attention (each frame attends to itself alone,
tuned and inverted all the same). Gates for the whole method: 90 % or more of frames as asked, median position error of
4 pixels or less.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tav_core.demo import world
from tav_core.demo.run import INVERSION, SAMPLING, TUNING, score_edit
from tav_core.editor import ClipEditor
from tav_core.models import DEMO_MODEL, load_model
from tav_core.schedule import plain_noise
from tav_core.show import contact_sheet, save_picture
from tav_core.store import Store

VARIANTS = ("whole method", "no tuning", "no inversion", "no sparse-causal attention", "published range")
MAIN = ("whole method", "no tuning")  # for all clips; the others for as many as asked


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


def edit_clip(job: tuple[int, tuple[str, ...]], args: argparse.Namespace) -> list[dict]:
    """All edits of one clip (its seed) under each variant: one record an edit."""
    seed, variants = job
    torch.set_num_threads(1)
    scenes = random_clip(seed, args.num_frames)
    frames = torch.from_numpy(np.stack([world.draw(scene)[0] for scene in scenes]))
    edits = random_edits(seed, scenes[0])
    tuning = replace(TUNING, steps=args.tuning_steps, learning_rate=args.learning_rate)
    inversion = replace(INVERSION, num_inference_steps=args.num_inference_steps)
    sampling = replace(SAMPLING, num_inference_steps=args.num_inference_steps, guidance_scale=args.guidance_scale)
    records = []
    for variant in variants:
        whole = variant in ("published range", "no inversion")  # plain noise has no level but the highest
        attention = "per_frame" if variant == "no sparse-causal attention" else "sparse_causal"
        store = Store(args.store) if args.store else None
        editor = ClipEditor(load_model(args.model), frames, scenes[0].caption, attention=attention, store=store)
        drawn_from = 1.0 if variant == "published range" else tuning.timestep_range
        for _ in editor.tune(replace(tuning, timestep_range=drawn_from)) if variant != "no tuning" else ():
            pass
        for _ in editor.invert(inversion):
            pass
        noise = plain_noise(tuple(editor.latents.shape), seed) if variant == "no inversion" else None
        start = 1.0 if whole else sampling.denoise
        clips = {scenes[0].caption: frames}
        for kind, words in edits.items():
            prompt = scenes[0].edited(**words).caption
            *_, last = editor.edit(prompt, replace(sampling, denoise=start), noise=noise)
            clips[prompt] = editor.decode(last.latents)
            score = score_edit(clips[prompt].numpy(), frames.numpy(), scenes, words)
            records.append({"clip": seed, "variant": variant, "edit": kind, "prompt": prompt} | asdict(score))
        if args.output:
            save_picture(args.output / f"{seed}-{variant.replace(' ', '-')}.png", contact_sheet(clips))
    return records


def summarise(records: list[dict]) -> str:
    """A table of means over clips, by variant and kind of edit."""
    groups = defaultdict(list)
    for record in records:
        groups[record["variant"], record["edit"]].append(record)
        groups[record["variant"], "all"].append(record)
    lines = [
        "| variant | edit | clips | frames as asked | position error, px (median) | background, dB | size jitter |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for (variant, edit), group in groups.items():
        success = np.mean([r["success"] for r in group])
        position = np.median([r["position_error"] for r in group])
        psnr = [r["background_psnr"] for r in group if r["background_psnr"] is not None]
        jitter = np.median([r["size_jitter"] for r in group])
        kept = f"{np.mean(psnr):.1f}" if psnr else "-"
        clips = len({r["clip"] for r in group})
        lines.append(f"| {variant} | {edit} | {clips} | {success:.1%} | {position:.2f} | {kept} | {jitter:.3f} |")
    return "\n".join(lines)


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


def main() -> None:
    parser = clip_parser(__doc__)
    parser.add_argument("--ablation-clips", type=int, default=20, help="how many of the clips run all variants")
    parser.add_argument("--learning-rate", type=float, default=TUNING.learning_rate)
    parser.add_argument("--guidance-scale", type=float, default=SAMPLING.guidance_scale)
    args = parser.parse_args()
    jobs = [(args.first_seed + i, VARIANTS if i < args.ablation_clips else MAIN) for i in range(args.clips)]
    print(summarise(records_of(partial(edit_clip, args=args), jobs, args)))


if __name__ == "__main__":
    main()
