"""The reconstruction of an inverted clip: sampled under the prompt that it was inverted with, without guidance.

    python -m benchmarks fidelity inversion [--clips 20] [--num-frames 16] [--refinements 0 1 3 5 10] [--store DIR]

The clips are those of `benchmarks fidelity edits`, each tuned as in the demo. PSNR of the decoded frames against the
source; the autoencoder's round trip bounds it. "share" is that of the schedule which is sampled; "predictions" are
those of the inversion, for each of its steps.

Gate: within 0.5 dB of the round trip with 50 steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.fidelity.clips import Columns, Settings, clip_parser, draw_clip, random_clip, report_of
from tav_core import ClipEditor, InversionConfig, SamplingConfig
from tav_core.editing.inversion import invert
from tav_core.editing.reconstruction import reconstruction_snr
from tav_core.editing.sampling import sample
from tav_core.metrics import psnr
from tav_core.models.codec import encode_prompts
from tav_core.presets import BUNDLED

SHARES = (1.0, BUNDLED.sampling.denoise)
COLUMNS: Columns = {
    "psnr": ("PSNR, dB", np.mean, "{:.2f}"),
    "below": ("below round trip, dB", np.mean, "{:.2f}"),
    "below_at_worst": ("the worst clip, dB", np.max, "{:.2f}"),
    "snr": ("latents, dB", np.mean, "{:.1f}"),
    "predictions": ("predictions", np.mean, "{:.1f}"),
    "deviation": ("standard deviation of the noise", np.mean, "{:.2f}"),
}


def measure_clip(seed: int, args: argparse.Namespace) -> list[dict]:
    """The round trip of one clip, and a record for each prompt, number of refinements and share."""
    scenes, settings = random_clip(seed, args.num_frames), Settings(args)
    source = draw_clip(scenes)
    editor = settings.editor(source, scenes[0].caption)
    harness.last(editor.tune(settings.tuning()))
    bound = psnr(editor.decode(editor.latents).numpy(), source.numpy())
    records = [{"clip": seed, "variant": "round trip", "edit": "-", "psnr": bound}]
    for name, prompt in {"empty prompt": "", "caption": scenes[0].caption}.items():
        for refinements in args.refinements:
            inversion = replace(settings.inversion, refinements=refinements)
            for share, figures in _reconstructions(editor, prompt, inversion, settings.sampling(guidance_scale=1.0)):
                below = bound - figures["psnr"]
                variant = f"{name}, refinements {refinements}, share {share}"
                gap = {"psnr": bound - below, "below": below, "below_at_worst": below}
                records.append({"clip": seed, "variant": variant, "edit": "-"} | figures | gap)
    return records


def _reconstructions(
    editor: ClipEditor, prompt: str, inversion: InversionConfig, unguided: SamplingConfig
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Each share and the figures of its reconstruction and of the inversion."""
    text, count = encode_prompts(editor.model, [prompt]), inversion.num_inference_steps
    made: list[int] = []
    counting = editor.video_unet.register_forward_hook(lambda *_: made.append(1))
    steps = invert(editor.video_unet, editor.latents, text, editor.schedule, inversion)
    levels = {step.timestep: step.latents for step in steps}
    counting.remove()
    inverted = {"predictions": len(made) / count, "deviation": float(levels[max(levels)].std())}
    for share in SHARES:
        noise = levels[editor.schedule.timesteps(count, share)[0]]
        sampling = replace(unguided, denoise=share)
        made_again = harness.last(sample(editor.video_unet, noise, text, None, editor.schedule, sampling)).latents
        near = {
            "psnr": psnr(editor.decode(made_again).numpy(), editor.frames.numpy()),
            "snr": reconstruction_snr(editor.latents, made_again),
        }
        yield share, near | inverted


def run(options: list[str]) -> str:
    parser = clip_parser(__name__, __doc__)
    parser.add_argument("--refinements", type=int, nargs="+", default=[0, 1, 3, 5, 10])
    args = parser.parse_args(options)
    jobs = range(args.first_seed, args.first_seed + args.clips)
    return report_of(measure_clip, jobs, args, COLUMNS)
