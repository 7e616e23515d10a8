"""Measure an edit against its source: always without learned models; with CLIP, PickScore and DINOv2 if given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import metrics
from ..metrics import MEASURES, format_value
from ..metrics.encoders import ClipEncoder, DinoEncoder

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Encoders:
    """The learned models to measure with; None for none."""

    clip: ClipEncoder | None = None
    pickscore: ClipEncoder | None = None
    dino: DinoEncoder | None = None

    @classmethod
    def load(
        cls,
        clip: Path | None = None,
        pickscore: Path | None = None,
        dino: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> Encoders:
        """Load models from local folders in transformers' layout; None leaves out the measures of that model.

        Raises:
            EncoderError: if a folder cannot be used.
        """
        return cls(
            metrics.load_clip(clip, device) if clip else None,
            metrics.load_clip(pickscore, device) if pickscore else None,
            metrics.load_dino(dino, device) if dino else None,
        )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of one edit.

    Attributes:
        figures: by the names of `MEASURES`; None where a measure is not defined on this clip.
        curves: title -> {"source" or "edit": one value for each frame, or pair of frames}.
    """

    figures: Figures
    curves: dict[str, dict[str, np.ndarray]]


def evaluate(
    source: Tensor | np.ndarray,
    edit: Tensor | np.ndarray,
    prompt: str,
    source_prompt: str | None = None,
    encoders: Encoders = Encoders(),
    covered: np.ndarray | None = None,
) -> Evaluation:
    """Measure an edit.

    Arguments:
        source, edit: (f, h, w, 3) in [0, 1], two frames or more, of one shape.
        prompt, source_prompt: the prompt of the edit, and the source's caption.
        covered: (f, h, w), above 0 where the edit should change the picture; adds the background's PSNR.

    Raises:
        ValueError: if the clips do not fit together.
    """
    before, after = _as_array(source), _as_array(edit)
    figures, curves = _measure_pictures(before, after)
    if covered is not None:
        figures["background_psnr"] = metrics.background_psnr(after, before, covered)
    if encoders.clip:
        figures |= metrics.clip_measures(encoders.clip, after, prompt, source_prompt)
    if encoders.pickscore:
        figures |= metrics.pick_measures(encoders.pickscore, after, prompt)
    if encoders.dino:
        figures |= metrics.dino_measures(encoders.dino, after)
    return Evaluation({name: figures[name] for name in MEASURES if name in figures}, curves)


def _as_array(clip: Tensor | np.ndarray) -> np.ndarray:
    """Numbers of any floating type as float32; others stay, for `metrics.psnr` to refuse."""
    tensor = torch.as_tensor(clip).detach().cpu()
    return np.ascontiguousarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def _measure_pictures(source: np.ndarray, edit: np.ndarray) -> tuple[Figures, dict[str, dict[str, np.ndarray]]]:
    psnr, ssim = metrics.psnr(edit, source), metrics.ssim(edit, source)  # first: they check the clips
    motion, edit_motion = metrics.estimate_motion(source), metrics.estimate_motion(edit)
    source_errors, errors = (1000 * metrics.warp_error(clip, motion) for clip in (source, edit))
    distances = metrics.end_point_error(edit_motion.flow, motion.flow)
    warp, source_warp = _mean(errors), _mean(source_errors)
    figures = {
        "psnr": psnr,
        "ssim": _mean(ssim),
        "warp_error": warp,
        "source_warp_error": source_warp,
        "warp_ratio": warp / source_warp if warp is not None and source_warp else None,
        "end_point_error": _mean(distances),
        "flow_cosine": metrics.flow_cosine(edit_motion.flow, motion.flow),
    }
    curves = {
        "SSIM": {"edit": ssim},
        "warp error, 1e-3": {"source": source_errors, "edit": errors},
        "flow end-point error, px": {"edit": distances},
    }
    return figures, curves


def _mean(values: np.ndarray) -> float | None:
    """The mean of the values that are not NaN; None if all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def mean_figures(rows: list[Figures]) -> Figures:
    """The mean of each measure over the rows that have it."""
    found = {name: [row[name] for row in rows if row.get(name) is not None] for name in MEASURES}
    present = {name for row in rows for name in row}
    return {name: _mean(np.array(values, dtype=float)) for name, values in found.items() if name in present}


def format_table(figures: Figures) -> str:
    """Label, figure, unit and direction in columns, one measure per line."""
    width = max(len(MEASURES[name].label) for name in figures)
    lines = []
    for name, value in figures.items():
        measure = MEASURES[name]
        better = "" if measure.better == "-" else f"{measure.better} is better"
        lines.append(f"{measure.label:<{width}}  {format_value(name, value):>9}  {measure.unit:<6}  {better}".rstrip())
    return "\n".join(lines)
