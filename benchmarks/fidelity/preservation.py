"""What edits preserve of their source, with the plain method and with each way to preserve more, on the drawn world.

    python -m benchmarks fidelity preservation [--clips 20] [--all-variants 20] [--num-frames 16] [--store DIR]

The clips and edits are those of `benchmarks fidelity edits`. Each clip is tuned and inverted once, reconstructed
(sampled without a prompt and without guidance) and edited four times under each variant:

    plain                  from the inverted clip, as published, from 0.8 of the schedule
    all together           from the source branch, propagated along optical flow, with more guidance at high noise, and
                           deflickered: the default
    plain, deflickered     plain, and deflickered
    starts lower           plain from where edits with a source branch start
    source branch          from the source branch, from where "all together" starts
    propagated             the same, propagated along optical flow
    high-noise guidance    the same, with more guidance at high noise: all together, but for the deflickering
    locked                 all together, and locked where neither the source nor the edit may show the object, as by an
                           artist's mask

"as drawn" is the edit as the world draws it, the best there can be. Its warp error is not the source's, since the
source's flow does not fit another outline.

Gates over all edits: 95 % or more of frames as prompted; median position error of 2 pixels or less; the background
within 1 dB of the reconstruction's where it was not to change; warp error of at most 1.2 times the source's. The
autoencoder's round trip bounds all other lines: its noise alone gives plain backgrounds some flow.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.fidelity.clips import (
    Columns,
    Settings,
    Words,
    clip_parser,
    draw_clip,
    random_clip,
    random_edits,
    report_of,
)
from tav_core import ClipEditor, SamplingConfig
from tav_core.demo import shapes as world
from tav_core.demo.run import score_edit
from tav_core.evaluation import evaluate
from tav_core.metrics import psnr
from tav_core.presets import BUNDLED


@dataclass(frozen=True)
class Variant:
    """A way to edit: settings and options of `ClipEditor.edit`, whether to deflicker, and whether to draw a mask."""

    sampling: SamplingConfig = BUNDLED.sampling
    start_from: str = "inversion"
    propagate: bool = False
    deflicker: bool = False
    masked: bool = False


ALIKE = replace(BUNDLED.source_branch, high_noise_guidance_scale=None)
ALL = Variant(BUNDLED.source_branch, "source_branch", propagate=True, deflicker=True)
VARIANTS = {
    "plain": Variant(),
    "all together": ALL,
    "plain, deflickered": Variant(deflicker=True),
    "starts lower": Variant(ALIKE),
    "source branch": Variant(ALIKE, "source_branch"),
    "propagated": Variant(ALIKE, "source_branch", propagate=True),
    "high-noise guidance": replace(ALL, deflicker=False),
    "locked": replace(ALL, masked=True),
}
MAIN = ("plain", "all together")  # for all clips; the others for as many as --all-variants
# the rest of a record's figures go into records.json only
COLUMNS: Columns = {
    "success": ("frames as prompted", np.mean, "{:.1%}"),
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


@dataclass(frozen=True)
class Truth:
    """A clip's scenes, one a frame, and what the world draws of them: (f, h, w, 3) in [0, 1]."""

    scenes: list[world.Scene]
    source: Tensor

    def prompt(self, words: Words) -> str:
        return self.scenes[0].edited(**words).caption

    def figures(self, frames: Tensor, words: Words) -> dict[str, Any]:
        """Of an edit."""
        score = score_edit(frames.numpy(), self.source.numpy(), self.scenes, words)
        return evaluate(self.source, frames, prompt="").figures | asdict(score)

    def losses(self, frames: Tensor, bounds: Mapping[str, Tensor], words: Words) -> dict[str, float]:
        """How many dB the background is below that of each bound, over the same pixels."""
        if "background" in words:
            return {}
        own = self._background(frames, words)
        return {f"below_{name.replace(' ', '_')}": self._background(clip, words) - own for name, clip in bounds.items()}

    def _background(self, clip: Tensor, words: Words) -> float:
        return score_edit(clip.numpy(), self.source.numpy(), self.scenes, words).background_psnr or 0.0

    def mask(self, words: Words) -> Tensor:
        """1 where the source or the edit shows the object, or where the background changes: (f, height, width)."""
        pairs = [(scene, scene.edited(**words)) for scene in self.scenes]
        shown = [np.maximum(world.draw(before)[1], world.draw(after)[1]) > 0 for before, after in pairs]
        return torch.from_numpy(np.stack(shown)) | torch.tensor("background" in words)


def measure_clip(job: tuple[int, tuple[str, ...]], args: argparse.Namespace) -> list[dict]:
    """The autoencoder's round trip, the reconstruction and the edits of one clip (its seed): a record each."""
    seed, variants = job
    scenes, settings = random_clip(seed, args.num_frames), Settings(args)
    truth = Truth(scenes, draw_clip(scenes))
    editor = settings.editor(truth.source, scenes[0].caption)
    harness.last(editor.tune(settings.tuning()))
    harness.last(editor.invert(settings.inversion))
    bounds = _bounds(settings, editor)
    edits = {kind: (words, draw_clip(scenes, words)) for kind, words in random_edits(seed, scenes[0]).items()}
    drawn = {kind: truth.figures(clip, words) for kind, (words, clip) in edits.items()}
    records = [{"variant": name, "edit": "-"} | truth.figures(clip, {}) for name, clip in bounds.items()]
    records += [{"variant": "as drawn", "edit": kind} | figures for kind, figures in drawn.items()]
    for name in variants:
        clips = {"source": truth.source}
        for kind, (words, true_edit) in edits.items():
            prompt = truth.prompt(words)
            clips[prompt] = frames = _edited(settings, editor, truth, words, VARIANTS[name])
            figures = truth.figures(frames, words) | truth.losses(frames, bounds, words)
            figures["warp_over_drawn"] = figures["warp_ratio"] / drawn[kind]["warp_ratio"]
            figures["drawn_psnr"] = psnr(frames.numpy(), true_edit.numpy())
            records.append({"variant": name, "edit": kind, "prompt": prompt} | figures)
        settings.save_sheet(seed, name, clips)
    return [{"clip": seed} | record for record in records]


def _bounds(settings: Settings, editor: ClipEditor) -> dict[str, Tensor]:
    """Frames of the clip through the autoencoder, and through inversion and sampling."""
    reconstruction = harness.last(editor.edit("", settings.sampling(guidance_scale=1.0))).latents
    return {"round trip": editor.decode(editor.latents), "reconstruction": editor.decode(reconstruction)}


def _edited(settings: Settings, editor: ClipEditor, truth: Truth, words: Words, variant: Variant) -> Tensor:
    """The frames of an edit."""
    mask = truth.mask(words) if variant.masked else None
    options: dict[str, Any] = dict(start_from=variant.start_from, mask=mask, propagate=variant.propagate)
    steps = editor.edit(truth.prompt(words), settings.sampling(variant.sampling), **options)
    frames = editor.decode(harness.last(steps).latents)
    return torch.stack(list(editor.deflicker(frames))) if variant.deflicker else frames


def run(options: list[str]) -> str:
    parser = clip_parser(__name__, __doc__)
    parser.add_argument("--all-variants", type=int, default=20, help="how many of the clips run all variants")
    args = parser.parse_args(options)
    jobs = [(args.first_seed + i, tuple(VARIANTS) if i < args.all_variants else MAIN) for i in range(args.clips)]
    return report_of(measure_clip, jobs, args, COLUMNS)
