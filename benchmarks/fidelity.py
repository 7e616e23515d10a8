"""What edits keep of their source, with the plain method and with each way of keeping more, on the demo world.

    python -m benchmarks.fidelity [--clips 20] [--all-variants 20] [--num-frames 16] [--store DIR] [--output DIR]

The clips and edits are those of `benchmarks.edits`. Each clip is tuned and inverted once, reconstructed (sampled
without a prompt and without guidance) and edited four times under each variant:

    plain                  the demo's settings, from 0.8 of the schedule
    all together           beside the clip under fresh noise, carried along its motion, guided more early, and its
                           flicker taken out: the default
    plain, steadied        plain, and its flicker taken out
    starts lower           plain from where edits beside the clip start
    direct inversion       beside the inverted clip's trajectory, from 0.8
    fresh noise            beside the clip under fresh noise, from where "all together" starts
    carried                the same, carried along the motion of the clip
    guided more early      the same, guided more while it is decided what lies where: all together, not steadied
    on the trajectory      all together, but beside the inverted clip's trajectory
    locked                 all together, and locked where neither the source nor the edit may show the object, as an
                           artist would draw it

"as drawn" is the edit that the world itself draws, which nothing surpasses: its warp error is not the source's, since
the source's flow knows nothing of another outline.

Gates over all edits: 95 % or more of frames as asked; median position error of 2 pixels or less; the background within
1 dB of the reconstruction's where it was not to change; warp error of at most 1.2 times the source's. The autoencoder's
round trip bounds all other lines: its noise alone gives plain grounds some flow.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tav_core.demo import shapes as world
from tav_core.demo.run import INVERSION, SAMPLING, SOURCE_BRANCH, TUNING, score_edit
from tav_core.editing.sampling import SamplingConfig
from tav_core.editor import ClipEditor
from tav_core.evaluation import evaluate
from tav_core.metrics import psnr
from tav_core.models.base import load_model
from tav_core.store import Store
from tav_core.viz.figures import contact_sheet, save_picture

from .clips import Columns, clip_parser, random_clip, random_edits, records_of, table


@dataclass(frozen=True)
class Variant:
    """A way to edit: settings, `keep` and `carry` as `ClipEditor.edit` takes them; is it steadied, is a mask drawn."""

    sampling: SamplingConfig = SAMPLING
    keep: str = "nothing"
    carry: bool = False
    steadied: bool = False
    masked: bool = False


ALIKE = replace(SOURCE_BRANCH, high_noise_guidance_scale=None)
VARIANTS = {
    "plain": Variant(),
    "all together": Variant(SOURCE_BRANCH, "noise", carry=True, steadied=True),
    "plain, steadied": Variant(steadied=True),
    "starts lower": Variant(ALIKE),
    "direct inversion": Variant(SAMPLING, "inversion"),
    "fresh noise": Variant(ALIKE, "noise"),
    "carried": Variant(ALIKE, "noise", carry=True),
    "guided more early": Variant(SOURCE_BRANCH, "noise", carry=True),
    "on the trajectory": Variant(SOURCE_BRANCH, "inversion", carry=True, steadied=True),
    "locked": Variant(SOURCE_BRANCH, "noise", carry=True, steadied=True, masked=True),
}
MAIN = ("plain", "all together")  # for all clips; the others for as many as asked
# the rest of a record's figures go into records.json only
COLUMNS: Columns = {
    "success": ("frames as asked", np.mean, "{:.1%}"),
    "position_error": ("position, px", np.median, "{:.2f}"),
    "background_psnr": ("background, dB", np.mean, "{:.1f}"),
    "below_reconstruction": ("below reconstruction, dB", np.mean, "{:.1f}"),
    "below_round_trip": ("below round trip, dB", np.mean, "{:.1f}"),
    "ssim": ("SSIM", np.mean, "{:.3f}"),
    "warp_ratio": ("warp error / source's", np.median, "{:.2f}"),
    "warp_over_drawn": ("warp error / that as drawn", np.median, "{:.2f}"),
    "drawn_psnr": ("against that as drawn, dB", np.mean, "{:.1f}"),
    "end_point_error": ("flow error, px", np.mean, "{:.2f}"),
    "flow_cosine": ("flow cosine", np.mean, "{:.2f}"),
}


def measure_clip(job: tuple[int, tuple[str, ...]], args: argparse.Namespace) -> list[dict]:
    """The autoencoder's round trip, the reconstruction and the edits of one clip (its seed): a record each."""
    seed, variants = job
    torch.set_num_threads(1)
    scenes = random_clip(seed, args.num_frames)
    source = _drawn(scenes, {})
    store = Store(args.store) if args.store else None
    editor = ClipEditor(load_model(args.model), source, scenes[0].caption, store=store)
    for _ in editor.tune(replace(TUNING, steps=args.tuning_steps)):
        pass
    for _ in editor.invert(replace(INVERSION, num_inference_steps=args.num_inference_steps)):
        pass
    unguided = replace(SAMPLING, num_inference_steps=args.num_inference_steps, guidance_scale=1.0)
    *_, returned = editor.edit("", unguided)
    bounds = {"round trip": editor.decode(editor.latents), "reconstruction": editor.decode(returned.latents)}
    records = [
        {"clip": seed, "variant": name, "edit": "-"} | _figures(clip, source, scenes, {})
        for name, clip in bounds.items()
    ]
    edits = random_edits(seed, scenes[0])
    truth = {kind: _drawn(scenes, words) for kind, words in edits.items()}
    drawn = {kind: _figures(truth[kind], source, scenes, words) for kind, words in edits.items()}
    records += [{"clip": seed, "variant": "as drawn", "edit": kind} | figures for kind, figures in drawn.items()]
    for name in variants:
        clips = {"source": source}
        for kind, words in edits.items():
            prompt = scenes[0].edited(**words).caption
            clips[prompt] = _edited(editor, scenes, words, VARIANTS[name], args.num_inference_steps)
            figures = _figures(clips[prompt], source, scenes, words) | _losses(
                clips[prompt], bounds, source, scenes, words
            )
            figures["warp_over_drawn"] = figures["warp_ratio"] / drawn[kind]["warp_ratio"]
            figures["drawn_psnr"] = psnr(clips[prompt].numpy(), truth[kind].numpy())
            records.append({"clip": seed, "variant": name, "edit": kind, "prompt": prompt} | figures)
        if args.output:
            save_picture(args.output / f"{seed}-{name.replace(' ', '-')}.png", contact_sheet(clips))
    return records


def _edited(
    editor: ClipEditor, scenes: list[world.Scene], words: dict[str, str], variant: Variant, num_inference_steps: int
) -> Tensor:
    mask = drawn_mask(scenes, words) if variant.masked else None
    prompt = scenes[0].edited(**words).caption
    config = replace(variant.sampling, num_inference_steps=num_inference_steps)
    *_, last = editor.edit(prompt, config, keep=variant.keep, mask=mask, carry=variant.carry)
    frames = editor.decode(last.latents)
    return torch.stack(list(editor.deflicker(frames))) if variant.steadied else frames


def _drawn(scenes: list[world.Scene], words: dict[str, str]) -> Tensor:
    return torch.from_numpy(np.stack([world.draw(scene.edited(**words))[0] for scene in scenes]))


def drawn_mask(scenes: list[world.Scene], words: dict[str, str]) -> Tensor:
    """1 where the source or the edit shows the object, or where the ground changes: (f, height, width)."""
    edited = [scene.edited(**words) for scene in scenes]
    shown = [np.maximum(world.draw(a)[1], world.draw(b)[1]) > 0 for a, b in zip(scenes, edited, strict=True)]
    return torch.from_numpy(np.stack(shown)) | torch.tensor("background" in words)


def _figures(frames: Tensor, source: Tensor, scenes: list[world.Scene], words: dict[str, str]) -> dict:
    truth = score_edit(frames.numpy(), source.numpy(), scenes, words)
    return evaluate(source, frames, prompt="").figures | asdict(truth)


def _losses(
    frames: Tensor, bounds: dict[str, Tensor], source: Tensor, scenes: list[world.Scene], words: dict[str, str]
) -> dict[str, float]:
    """How many dB the background lies below that of each bound, over the same pixels."""
    if "background" in words:
        return {}

    def kept(clip: Tensor) -> float:
        return score_edit(clip.numpy(), source.numpy(), scenes, words).background_psnr or 0.0

    return {f"below_{name.replace(' ', '_')}": kept(clip) - kept(frames) for name, clip in bounds.items()}


def main() -> None:
    parser = clip_parser(__doc__)
    parser.add_argument("--all-variants", type=int, default=20, help="how many of the clips run all variants")
    args = parser.parse_args()
    jobs = [(args.first_seed + i, tuple(VARIANTS) if i < args.all_variants else MAIN) for i in range(args.clips)]
    print(table(records_of(partial(measure_clip, args=args), jobs, args), COLUMNS))


if __name__ == "__main__":
    main()
