"""`export`: a tuning in a file for other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..models.base import load_model
from ..store.export import ERROR, KINDS, export_tuned
from ..store.tuned import inflation_of, load_tuned
from ..unet.inflate import inflate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the command."""
    kinds = "a LoRA for still images, the same without loss, or the temporal attention (default: lora)"
    error = f"of a LoRA: the part of each matrix, by its length, that may be lost (default: {ERROR:g})"
    parser.add_argument("--weights", type=Path, required=True, help="tuned weights, as edit or Save Tuned writes them")
    parser.add_argument("--model", type=Path, help="the model that was tuned (default: the bundled one)")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help=kinds)
    parser.add_argument("--error", type=float, default=ERROR, help=error)


def run(args: argparse.Namespace) -> None:
    """Load the tuned weights into the model that was tuned, and write the file.

    Raises:
        OSError, ValueError: if weights and model do not fit together, or the file cannot be written.
    """
    base = load_model(args.model) if args.model else load_model()
    video_unet = inflate(base.unet, **inflation_of(args.weights))
    notes = load_tuned(video_unet, args.weights)
    written = export_tuned(video_unet, args.output, args.kind, error=args.error, metadata=notes)
    sys.stdout.write(f"{written.path}\n{written.summary}".strip() + "\n")
