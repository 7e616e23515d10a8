"""`python -m tav_core evaluate`: measure an edit against its source, or all edits of a data set, and write a page.

What is measured without weights is always there; CLIP, PickScore and DINOv2 join where their folder is given, FID and
Inception Score over a data set where the Inception weights are. `metrics/` defines the measures, `report.py` the page.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import metrics
from .dataset import Item, read_dataset
from .metrics import MEASURES, SetMeasures, written
from .metrics.encoders import ClipEncoder, DinoEncoder
from .report import write_clip_page, write_dataset_page, write_table
from .video import read_video

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Encoders:
    """What to measure with beside the pictures themselves."""

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
        """From local folders in transformers' layout; None leaves the measures of that one out.

        Raises:
            EncoderError: a folder cannot be used.
        """
        return cls(
            metrics.load_clip(clip, device) if clip else None,
            metrics.load_clip(pickscore, device) if pickscore else None,
            metrics.load_dino(dino, device) if dino else None,
        )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of one edit by the names of `MEASURES` (None: not defined on this clip), and how they run over time.

    curves: what -> {"source" or "edit": one value a frame, or a pair of frames}.
    """

    figures: Figures
    curves: dict[str, dict[str, np.ndarray]]


def evaluate(
    source: Tensor,
    edit: Tensor,
    prompt: str,
    source_prompt: str | None = None,
    encoders: Encoders = Encoders(),
    covered: np.ndarray | None = None,
) -> Evaluation:
    """Measure an edit.

    Arguments:
        source, edit: (f, h, w, 3) in [0, 1], two frames or more, of one shape.
        prompt, source_prompt: what the edit was to show, and the source's caption.
        covered: (f, h, w), above 0 where the edit was to change the picture; adds the background's PSNR.

    Raises:
        ValueError: the clips do not fit together.
    """
    before, after = (np.ascontiguousarray(clip.float().cpu().numpy()) for clip in (source, edit))
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


def _measure_pictures(source: np.ndarray, edit: np.ndarray) -> tuple[Figures, dict[str, dict[str, np.ndarray]]]:
    psnr, ssim = metrics.psnr(edit, source), metrics.ssim(edit, source)  # first, for they check the clips
    motion, edit_motion = metrics.estimate_motion(source), metrics.estimate_motion(edit)
    own, warped = (1000 * metrics.warp_error(clip, motion) for clip in (source, edit))
    apart = metrics.end_point_error(edit_motion.flow, motion.flow)
    warp, source_warp = _mean(warped), _mean(own)
    figures = {
        "psnr": psnr,
        "ssim": _mean(ssim),
        "warp_error": warp,
        "source_warp_error": source_warp,
        "warp_ratio": warp / source_warp if warp is not None and source_warp else None,
        "end_point_error": _mean(apart),
        "flow_cosine": metrics.flow_cosine(edit_motion.flow, motion.flow),
    }
    curves = {
        "SSIM": {"edit": ssim},
        "warp error, 1e-3": {"source": own, "edit": warped},
        "flow end-point error, px": {"edit": apart},
    }
    return figures, curves


def _mean(values: np.ndarray) -> float | None:
    """Over what is defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def format_table(figures: Figures) -> str:
    """Label, figure, unit and direction in columns, one measure a line."""
    width = max(len(MEASURES[name].label) for name in figures)
    lines = []
    for name, value in figures.items():
        measure = MEASURES[name]
        better = "" if measure.better == "-" else f"{measure.better} is better"
        lines.append(f"{measure.label:<{width}}  {written(name, value):>9}  {measure.unit:<6}  {better}".rstrip())
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    one = parser.add_argument_group("one edit")
    one.add_argument("--source", type=Path, help="the clip: a video file, a GIF or a folder of images")
    one.add_argument("--edit", type=Path, help="its edit, likewise")
    one.add_argument("--prompt", help="what the edit was to show")
    one.add_argument("--source-prompt", help="the clip's caption")
    one.add_argument("--start", type=float, default=0.0, help="seconds into the source at which the edit begins")
    one.add_argument("--fps", type=float, help="frames per second that were taken of the source (default: every frame)")
    many = parser.add_argument_group("many edits")
    many.add_argument(
        "--dataset",
        type=Path,
        help="LOVEU-TGVE's folder or its CSV, or a CSV with the columns source, edit, source_prompt, prompt",
    )
    many.add_argument("--edits", type=Path, help="folder of the edits, in the layout of a LOVEU-TGVE submission")
    many.add_argument("--inception", type=Path, help="torch-fidelity's Inception weights, for FID and Inception Score")
    parser.add_argument("--clip", type=Path, help="folder with CLIP; clip-vit-large-patch14 for published figures")
    parser.add_argument("--pickscore", type=Path, help="folder with PickScore_v1 and the processor that belongs to it")
    parser.add_argument("--dino", type=Path, help="folder with DINOv2; dinov2-base for published figures")
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), help="the page; a table (.csv) goes beside it"
    )
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: the options, the files or the weights do not fit together.
    """
    one, many = (args.source, args.edit, args.prompt), (args.dataset,)
    if all(one) == all(many) or (any(one) and any(many)):
        raise ValueError("Give --source, --edit and --prompt for one edit, or --dataset for many.")
    if args.output.suffix != ".html":
        raise ValueError(f"The report is a web page: name it NAME.html, not {args.output.name}.")
    encoders = Encoders.load(args.clip, args.pickscore, args.dino, args.device)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if args.dataset:
        inception = args.inception and metrics.load_inception(args.inception, args.device)
        _run_dataset(args, encoders, SetMeasures(inception) if inception else None)
    else:
        _run_clip(args, encoders)


def _run_clip(args: argparse.Namespace, encoders: Encoders) -> None:
    item = Item(args.source.stem, args.edit.stem, args.source, args.edit, args.source_prompt, args.prompt)
    source, edit, fps = read_pair(item, args.start, args.fps)
    result = evaluate(source, edit, item.prompt, item.source_prompt, encoders)
    write_clip_page(args.output, source, edit, fps, item, result.figures, result.curves)
    write_table(args.output.with_suffix(".csv"), [(item, result.figures)])
    sys.stdout.write(f"{format_table(result.figures)}\n{args.output}\n")


def _run_dataset(args: argparse.Namespace, encoders: Encoders, sets: SetMeasures | None) -> None:
    items = read_dataset(args.dataset, args.edits)
    rows: list[tuple[Item, Figures]] = []
    for number, item in enumerate(items, 1):
        source, edit, _ = read_pair(item)
        rows.append((item, evaluate(source, edit, item.prompt, item.source_prompt, encoders).figures))
        if sets:
            sets.add(source.numpy(), edit.numpy())
        write_table(args.output.with_suffix(".csv"), rows)  # each time, so that a run that is cut short is not lost
        sys.stderr.write(f"{number} of {len(items)}: {item.video} {item.kind}\n")
    means = mean_figures([figures for _, figures in rows]) | (sets.compute() if sets else {})
    write_dataset_page(args.output, rows, means)
    sys.stdout.write(f"Mean of {len(rows)} edits:\n{format_table(means)}\n{args.output}\n")


def mean_figures(rows: list[Figures]) -> Figures:
    """The mean of each measure over the rows that have it."""
    found = {name: [row[name] for row in rows if row.get(name) is not None] for name in MEASURES}
    asked = {name for row in rows for name in row}
    return {name: _mean(np.array(values, dtype=float)) for name, values in found.items() if name in asked}


def read_pair(item: Item, start: float = 0.0, fps: float | None = None) -> tuple[Tensor, Tensor, float]:
    """The edit, and as much of its source at its size: two (f, h, w, 3) in [0, 1], and frames per second."""
    edit = read_video(item.edit)
    frames, height, width, _ = edit.frames.shape
    source = read_video(item.source, num_frames=frames, start=start, fps=fps, width=width, height=height)
    return source.frames, edit.frames, float(edit.fps)
