"""The option --device of the commands."""

from __future__ import annotations

import argparse

import torch


def add_device(parser: argparse.ArgumentParser, text: str | None = None) -> None:
    """Add --device; the command checks whether the machine has it (`checks.check_device`)."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=_named, default=default, help=text)


def _named(text: str) -> torch.device:
    try:
        return torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"cpu, cuda, cuda:1 or mps is expected, not {text!r}") from None
