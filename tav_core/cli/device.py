"""The option --device of the commands."""

from __future__ import annotations

import argparse

import torch


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device; whether the machine has it is for the command to check (`checks.check_device`)."""
    parser.add_argument("--device", type=_named, default="cuda" if torch.cuda.is_available() else "cpu")


def _named(text: str) -> torch.device:
    try:
        return torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"cpu, cuda, cuda:1 or mps is expected, not {text!r}") from None
