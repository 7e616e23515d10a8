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
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch

from tav_core.demo import shapes as world
from tav_core.demo.run import INVERSION, SAMPLING, TUNING, score_edit
from tav_core.diffusion.schedule import plain_noise
from tav_core.editor import ClipEditor
from tav_core.models.base import load_model
from tav_core.store import Store
from tav_core.viz.figures import contact_sheet, save_picture

from .clips import Columns, clip_parser, random_clip, random_edits, records_of, table

VARIANTS = ("whole method", "no tuning", "no inversion", "no sparse-causal attention", "published range")
MAIN = ("whole method", "no tuning")  # for all clips; the others for as many as asked
COLUMNS: Columns = {
    "success": ("frames as asked", np.mean, "{:.1%}"),
    "position_error": ("position error, px (median)", np.median, "{:.2f}"),
    "background_psnr": ("background, dB", np.mean, "{:.1f}"),
    "size_jitter": ("size jitter", np.median, "{:.3f}"),
}


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


def main() -> None:
    parser = clip_parser(__doc__)
    parser.add_argument("--ablation-clips", type=int, default=20, help="how many of the clips run all variants")
    parser.add_argument("--learning-rate", type=float, default=TUNING.learning_rate)
    parser.add_argument("--guidance-scale", type=float, default=SAMPLING.guidance_scale)
    args = parser.parse_args()
    jobs = [(args.first_seed + i, VARIANTS if i < args.ablation_clips else MAIN) for i in range(args.clips)]
    print(table(records_of(partial(edit_clip, args=args), jobs, args), COLUMNS))


if __name__ == "__main__":
    main()
