"""`evaluate`: measure one edit, or all edits of a data set, and write a page and a table."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from ..atomic import make_folder
from ..checks import check_device
from ..evaluation.dataset import Item, find_table, read_dataset
from ..evaluation.measure import Encoders, Figures, evaluate, format_table, mean_figures
from ..evaluation.report import write_clip_page, write_dataset_page, write_table
from ..metrics import SetMeasures, load_inception
from ..video import read_video
from ..video.choose import FITS
from .device import add_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the command."""
    one, many = parser.add_argument_group("one edit"), parser.add_argument_group("many edits")
    one.add_argument("--source", type=Path, help="the clip: a video file, a GIF or a folder of images")
    one.add_argument("--edit", type=Path, help="its edit, likewise")
    one.add_argument("--prompt", help="the prompt of the edit")
    one.add_argument("--source-prompt", help="the clip's caption")
    one.add_argument("--start", type=float, default=0.0, help="seconds into the source at which the edit begins")
    one.add_argument("--fps", type=float, help="frames per second taken of the source (default: every frame)")
    dataset = "LOVEU-TGVE's folder or its CSV, or a CSV with the columns source, edit, source_prompt, prompt"
    many.add_argument("--dataset", type=Path, help=dataset)
    many.add_argument("--edits", type=Path, help="folder of the edits, in the layout of a LOVEU-TGVE submission")
    many.add_argument("--inception", type=Path, help="torch-fidelity's Inception weights, for FID and Inception Score")
    parser.add_argument("--clip", type=Path, help="folder with CLIP; clip-vit-large-patch14 for published figures")
    parser.add_argument("--pickscore", type=Path, help="folder with PickScore_v1 and its processor")
    parser.add_argument("--dino", type=Path, help="folder with DINOv2; dinov2-base for published figures")
    page = Path("report.html")
    parser.add_argument("--output", type=Path, default=page, help="the page; a table (.csv) is written beside it")
    text = "how the source is fitted to the shape of the edit (default: crop)"
    parser.add_argument("--fit", choices=FITS, default=FITS[0], help=text)
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Measure, print the figures, and write the report.

    Raises:
        ValueError: if options, files or weights do not fit together.
    """
    one, many = (args.source, args.edit, args.prompt), (args.dataset,)
    if all(one) == all(many) or (any(one) and any(many)):
        raise ValueError("Give --source, --edit and --prompt for one edit, or --dataset for many.")
    if args.output.suffix != ".html":
        raise ValueError(f"--output must be NAME.html, for the report is a web page, not {args.output.name}.")
    check_device(args.device)
    encoders = Encoders.load(args.clip, args.pickscore, args.dino, args.device)
    make_folder(args.output.parent)
    if args.dataset:
        inception = args.inception and load_inception(args.inception, args.device)
        _run_dataset(args, encoders, SetMeasures(inception) if inception else None)
    else:
        _run_clip(args, encoders)


def _run_clip(args: argparse.Namespace, encoders: Encoders) -> None:
    item = Item(args.source.stem, args.edit.stem, args.source, args.edit, args.source_prompt, args.prompt)
    source, edit, fps = read_pair(item, args.start, args.fps, args.fit)
    result = evaluate(source, edit, item.prompt, item.source_prompt, encoders)
    write_clip_page(args.output, source, edit, fps, item, result.figures, result.curves)
    write_table(args.output.with_suffix(".csv"), [(item, result.figures)])
    sys.stdout.write(f"{format_table(result.figures)}\n{args.output}\n")


def _run_dataset(args: argparse.Namespace, encoders: Encoders, sets: SetMeasures | None) -> None:
    items, table = read_dataset(args.dataset, args.edits), args.output.with_suffix(".csv")
    if table.exists() and table.samefile(find_table(args.dataset)):
        raise ValueError(f"The table beside the report would replace {table} of the data set: give another --output.")
    rows: list[tuple[Item, Figures]] = []
    for number, item in enumerate(items, 1):
        source, edit, _ = read_pair(item, fit=args.fit)
        rows.append((item, evaluate(source, edit, item.prompt, item.source_prompt, encoders).figures))
        if sets:
            sets.add(source.numpy(), edit.numpy())
        # After each edit, so that an interrupted run is not lost. On Windows a spreadsheet program may lock the table.
        with suppress(PermissionError):
            write_table(table, rows)
        sys.stderr.write(f"{number} of {len(items)}: {item.video} {item.kind}\n")
    means = mean_figures([figures for _, figures in rows]) | (sets.compute() if sets else {})
    write_dataset_page(args.output, rows, means)
    write_table(table, rows)
    sys.stdout.write(f"Mean of {len(rows)} edits:\n{format_table(means)}\n{args.output}\n")


def read_pair(
    item: Item, start: float = 0.0, fps: float | None = None, fit: str = FITS[0]
) -> tuple[Tensor, Tensor, float]:
    """The source, cut and resized as its edit, and the edit: (f, h, w, 3) in [0, 1]; and frames per second."""
    edit = read_video(item.edit)
    frames, height, width, _ = edit.frames.shape
    source = read_video(item.source, num_frames=frames, start=start, fps=fps, width=width, height=height, fit=fit)
    return source.frames, edit.frames, float(edit.fps)
