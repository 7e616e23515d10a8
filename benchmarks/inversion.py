"""How near inversion comes back to the clip when it is sampled again under the prompt it was inverted with, unguided.

    python -m benchmarks.inversion [--clips 20] [--num-frames 16] [--refinements 0 1 3 5 10] [--store DIR]

The clips are those of `benchmarks.edits`, each tuned as in the demo. PSNR of the decoded frames against the source; the
autoencoder's round trip is as far as any of them can come. "share" is that of the schedule which is walked down again;
"predictions" are those of the inversion, for each of its steps.

Gate: within 0.5 dB of the round trip with 50 steps.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from tav_core.demo import shapes as world
from tav_core.demo.run import INVERSION, SAMPLING, TUNING
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.editing.inversion import InversionConfig, invert
from tav_core.editing.reconstruction import reconstruction_snr
from tav_core.editing.sampling import sample
from tav_core.editor import ClipEditor
from tav_core.metrics import psnr
from tav_core.models.base import load_model
from tav_core.models.codec import encode_prompts
from tav_core.store import Store

from .clips import Columns, clip_parser, random_clip, records_of, table

SHARES = (1.0, SAMPLING.denoise)
COLUMNS: Columns = {
    "psnr": ("PSNR, dB", np.mean, "{:.2f}"),
    "below": ("below round trip, dB", np.mean, "{:.2f}"),
    "below_at_worst": ("the worst clip, dB", np.max, "{:.2f}"),
    "latents": ("latents, dB", np.mean, "{:.1f}"),
    "predictions": ("predictions", np.mean, "{:.1f}"),
    "deviation": ("standard deviation of the noise", np.mean, "{:.2f}"),
}


def measure_clip(seed: int, args: argparse.Namespace) -> list[dict]:
    """The round trip of one clip, and a record for each prompt, number of refinements and share."""
    torch.set_num_threads(1)
    scenes = random_clip(seed, args.num_frames)
    source = torch.from_numpy(np.stack([world.draw(scene)[0] for scene in scenes]))
    store = Store(args.store) if args.store else None
    editor = ClipEditor(load_model(args.model), source, scenes[0].caption, store=store)
    for _ in editor.tune(replace(TUNING, steps=args.tuning_steps)):
        pass
    bound = psnr(editor.decode(editor.latents).numpy(), source.numpy())
    records = [{"clip": seed, "variant": "round trip", "edit": "-", "psnr": bound}]
    for name, prompt in {"empty prompt": "", "caption": scenes[0].caption}.items():
        for refinements in args.refinements:
            config = replace(INVERSION, num_inference_steps=args.num_inference_steps, refinements=refinements)
            for figures in _returns(editor, prompt, config):
                below = bound - psnr(editor.decode(figures.pop("back")).numpy(), source.numpy())
                variant = f"{name}, refinements {refinements}, share {figures.pop('share')}"
                gap = {"psnr": bound - below, "below": below, "below_at_worst": below}
                records.append({"clip": seed, "variant": variant, "edit": "-"} | gap | figures)
    return records


def _returns(editor: ClipEditor, prompt: str, config: InversionConfig) -> list[dict[str, Any]]:
    """For each share the clip that comes back, and what its inversion took."""
    text, scheduler = encode_prompts(editor.model, [prompt]), editor.model.scheduler
    made: list[int] = []
    counting = editor.video_unet.register_forward_hook(lambda *_: made.append(1))
    levels = {
        step.timestep: step.latents for step in invert(editor.video_unet, editor.latents, text, scheduler, config)
    }
    counting.remove()
    steps = config.num_inference_steps
    inverted = {"predictions": len(made) / steps, "deviation": float(levels[max(levels)].std())}
    returns = []
    for share in SHARES:
        sampling = replace(SAMPLING, num_inference_steps=steps, guidance_scale=1.0, denoise=share)
        noise = levels[NoiseSchedule.from_scheduler(scheduler).timesteps(steps, share)[0]]
        *_, last = sample(editor.video_unet, noise, text, None, scheduler, sampling)
        near = reconstruction_snr(editor.latents, last.latents)
        returns.append({"share": share, "back": last.latents, "latents": near} | inverted)
    return returns


def main() -> None:
    parser = clip_parser(__doc__)
    parser.add_argument("--refinements", type=int, nargs="+", default=[0, 1, 3, 5, 10])
    args = parser.parse_args()
    jobs = range(args.first_seed, args.first_seed + args.clips)
    print(table(records_of(partial(measure_clip, args=args), jobs, args), COLUMNS))


if __name__ == "__main__":
    main()
