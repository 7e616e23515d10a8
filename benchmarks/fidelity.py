"""What edits keep of their source: measures that need no truth, beside those that have it, on the demo world.

    python -m benchmarks.fidelity [--clips 20] [--num-frames 16] [--output DIR]

The clips and edits are those of `benchmarks.edits`. Each clip is tuned, inverted, reconstructed (sampled without a
prompt and without guidance) and edited four times. Gates over all edits: 95 % or more of frames as asked; median
position error of 2 pixels or less; the background within 1 dB of the reconstruction's where it was not to change; warp
error of at most 1.2 times the source's. The autoencoder's round trip bounds all other lines: its noise alone gives
plain grounds some flow.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tav_core.demo import world
from tav_core.demo.run import INVERSION, SAMPLING, TUNING, score_edit
from tav_core.editor import ClipEditor
from tav_core.evaluation import evaluate
from tav_core.models import load_model
from tav_core.show import contact_sheet, save_picture

from .edits import clip_parser, random_clip, random_edits, records_of

# column -> how it is averaged over clips; the rest of a record's figures go into records.json only
COLUMNS = {
    "success": ("frames as asked", np.mean, "{:.1%}"),
    "position_error": ("position, px", np.median, "{:.2f}"),
    "background_psnr": ("background, dB", np.mean, "{:.1f}"),
    "background_loss": ("below reconstruction, dB", np.mean, "{:.1f}"),
    "psnr": ("PSNR, dB", np.mean, "{:.1f}"),
    "ssim": ("SSIM", np.mean, "{:.3f}"),
    "warp_ratio": ("warp error / source's", np.median, "{:.2f}"),
    "end_point_error": ("flow error, px", np.mean, "{:.2f}"),
    "flow_cosine": ("flow cosine", np.mean, "{:.2f}"),
}


def measure_clip(seed: int, args: argparse.Namespace) -> list[dict]:
    """The autoencoder's round trip, the reconstruction and four edits of one clip: a record each."""
    torch.set_num_threads(1)
    scenes = random_clip(seed, args.num_frames)
    source = torch.from_numpy(np.stack([world.draw(scene)[0] for scene in scenes]))
    edits = {"round trip": {}, "reconstruction": {}} | random_edits(seed, scenes[0])
    editor = ClipEditor(load_model(args.model), source, scenes[0].caption)
    clips = dict(zip(edits, _sampled(editor, scenes[0], edits, args), strict=True))
    records = [
        {"clip": seed, "edit": kind} | _figures(clips[kind], source, scenes, words) for kind, words in edits.items()
    ]
    reconstruction = clips["reconstruction"].numpy()
    for record, words in zip(records, edits.values(), strict=True):  # the same pixels in both, whatever the edit covers
        if record["background_psnr"] is not None:
            bound = score_edit(reconstruction, source.numpy(), scenes, words).background_psnr
            record["background_loss"] = bound - record["background_psnr"]
    if args.output:
        save_picture(args.output / f"{seed}.png", contact_sheet({"source": source} | clips))
    return records


def _sampled(
    editor: ClipEditor, scene: world.Scene, edits: dict[str, dict], args: argparse.Namespace
) -> Iterator[Tensor]:
    """The clips of `edits`, in their order."""
    yield editor.decode(editor.latents)
    for _ in editor.tune(replace(TUNING, steps=args.tuning_steps)):
        pass
    for _ in editor.invert(replace(INVERSION, num_inference_steps=args.num_inference_steps)):
        pass
    guided = replace(SAMPLING, num_inference_steps=args.num_inference_steps)
    unguided = replace(guided, guidance_scale=1.0)
    for words in list(edits.values())[1:]:
        prompt, config = (scene.edited(**words).caption, guided) if words else ("", unguided)
        *_, last = editor.edit(prompt, config)
        yield editor.decode(last.latents)


def _figures(frames: Tensor, source: Tensor, scenes: list[world.Scene], words: dict[str, str]) -> dict:
    truth = score_edit(frames.numpy(), source.numpy(), scenes, words)
    return evaluate(source, frames, prompt="").figures | asdict(truth)


def summarise(records: list[dict]) -> str:
    """A table over clips, by kind of edit; "all edits" leaves out round trip and reconstruction."""
    groups: dict[str, list[dict]] = {}
    for record in records:
        groups.setdefault(record["edit"], []).append(record)
    groups["all edits"] = [r for r in records if r["edit"] not in ("round trip", "reconstruction")]
    heads = " | ".join(head for head, _, _ in COLUMNS.values())
    lines = [f"| edit | clips | {heads} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for kind, group in groups.items():
        cells = [_cell(group, name) for name in COLUMNS]
        lines.append(f"| {kind} | {len({r['clip'] for r in group})} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(group: list[dict], name: str) -> str:
    _, average, form = COLUMNS[name]
    values = [record[name] for record in group if record.get(name) is not None]
    return form.format(average(values)) if values else "-"


def main() -> None:
    args = clip_parser(__doc__).parse_args()
    seeds = range(args.first_seed, args.first_seed + args.clips)
    print(summarise(records_of(partial(measure_clip, args=args), seeds, args)))


if __name__ == "__main__":
    main()
