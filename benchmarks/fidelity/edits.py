"""Edit clips of the drawn world, whose truth is known, with the whole method and with one part of it left out.

    python -m benchmarks fidelity edits [--clips 20] [--ablation-clips 20] [--num-frames 16] [--output DIR]

Each clip is a random scene on a random path, edited four times (colour, shape, background, two words at once).
The whole method has the bundled model's settings: tuned and sampled below the level where its schedule carries no
signal. "published range" tunes over the whole schedule and starts from the fully inverted clip. Ablation as in the
paper's figure 8: no tuning, no inversion (plain noise), no sparse-causal attention (each frame attends to itself alone,
in tuning and inversion too). Gates for the whole method: 90 % or more of frames as prompted, median position error of
4 pixels or less.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

import numpy as np
from torch import Tensor

from benchmarks import harness
from benchmarks.fidelity.clips import Columns, Settings, clip_parser, draw_clip, random_clip, random_edits, report_of
from tav_core import ClipEditor
from tav_core.demo.run import score_edit
from tav_core.diffusion.schedule import plain_noise
from tav_core.presets import BUNDLED

VARIANTS = ("whole method", "no tuning", "no inversion", "no sparse-causal attention", "published range")
MAIN = ("whole method", "no tuning")  # for all clips; the others for as many as --ablation-clips
COLUMNS: Columns = {
    "success": ("frames as prompted", np.mean, "{:.1%}"),
    "position_error": ("position error, px (median)", np.median, "{:.2f}"),
    "background_psnr": ("background, dB", np.mean, "{:.1f}"),
    "size_jitter": ("size jitter", np.median, "{:.3f}"),
}


def edit_clip(job: tuple[int, tuple[str, ...]], args: argparse.Namespace) -> list[dict]:
    """All edits of one clip (its seed) under each variant: one record an edit."""
    seed, variants = job
    scenes, settings = random_clip(seed, args.num_frames), Settings(args)
    frames, records = draw_clip(scenes), []
    for variant in variants:
        editor = _tuned(settings, frames, scenes[0].caption, variant)
        noise = plain_noise(tuple(editor.latents.shape), seed) if variant == "no inversion" else None
        whole = variant in ("published range", "no inversion")  # plain noise has no level but the highest
        sampling = settings.sampling(guidance_scale=args.guidance_scale)
        sampling = replace(sampling, denoise=1.0) if whole else sampling
        clips = {scenes[0].caption: frames}
        for kind, words in random_edits(seed, scenes[0]).items():
            prompt = scenes[0].edited(**words).caption
            clips[prompt] = editor.decode(harness.last(editor.edit(prompt, sampling, noise=noise)).latents)
            score = score_edit(clips[prompt].numpy(), frames.numpy(), scenes, words)
            records.append({"clip": seed, "variant": variant, "edit": kind, "prompt": prompt} | asdict(score))
        settings.save_sheet(seed, variant, clips)
    return records


def _tuned(settings: Settings, frames: Tensor, caption: str, variant: str) -> ClipEditor:
    """An editor that has tuned and inverted the clip as a variant does."""
    attention = "per_frame" if variant == "no sparse-causal attention" else "sparse_causal"
    editor = settings.editor(frames, caption, attention=attention)
    if variant != "no tuning":
        tuning = replace(settings.tuning(), learning_rate=settings.args.learning_rate)
        harness.last(editor.tune(replace(tuning, timestep_range=1.0) if variant == "published range" else tuning))
    harness.last(editor.invert(settings.inversion))
    return editor


def run(options: list[str]) -> str:
    parser = clip_parser(__name__, __doc__)
    parser.add_argument("--ablation-clips", type=int, default=20, help="how many of the clips run all variants")
    parser.add_argument("--learning-rate", type=float, default=BUNDLED.tuning.learning_rate)
    parser.add_argument("--guidance-scale", type=float, default=BUNDLED.sampling.guidance_scale)
    args = parser.parse_args(options)
    jobs = [(args.first_seed + i, VARIANTS if i < args.ablation_clips else MAIN) for i in range(args.clips)]
    return report_of(edit_clip, jobs, args, COLUMNS)
