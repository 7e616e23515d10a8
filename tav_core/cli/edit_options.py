"""The options of the command `edit`, and the settings that they make."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..demo.run import BESIDE, INVERSION, SAMPLING, TUNING
from ..editing.inversion import InversionConfig
from ..editing.sampling import SamplingConfig
from ..editing.strength import STRENGTHS
from ..editor import KEEP
from ..models.base import DEMO_MODEL
from ..tuning.config import CHECKPOINTING, TuningConfig
from ..tuning.tune import LOSS_SCALING_DEVICES
from .device import add_device

AUTO, ON = "auto", "on"
PUBLISHED: dict[str, Any] = {"tune": TuningConfig(), "invert": InversionConfig(), "sample": SamplingConfig()}
BUNDLED: dict[str, Any] = {"tune": TUNING, "invert": INVERSION, "sample": BESIDE}
SETTINGS = {  # option of edit -> what it sets, which field there, what help says
    "--tuning-steps": (("tune",), "steps", "updates of the weights"),
    "--learning-rate": (("tune",), "learning_rate", "of the tuning"),
    "--timestep-range": (("tune",), "timestep_range", "share of the noise levels that tuning draws from, in (0, 1]"),
    "--num-inference-steps": (("invert", "sample"), "num_inference_steps", "steps of inversion and of sampling"),
    "--refinements": (("invert",), "refinements", "predictions more for each step of inversion, to come back closer"),
    "--guidance-scale": (("sample",), "guidance_scale", "how strongly the prompt pulls"),
    "--early-guidance-scale": (("sample",), "early_guidance_scale", "the scale while it is decided what lies where"),
    "--denoise": (("sample",), "denoise", "share of the steps that is sampled, in (0, 1]; less keeps more of the clip"),
    "--seed": (("tune", "sample"), "seed", "of noise and timesteps"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the command."""
    parser.add_argument("--video", required=True, help="the clip: a video file, a GIF or a folder of images")
    parser.add_argument("--source-prompt", required=True, help="the clip's caption")
    parser.add_argument("--prompt", required=True, help="what the edit is to show")
    parser.add_argument("--negative-prompt", default="")
    parser.add_argument("--output", type=Path, required=True, help="the edit: NAME.mp4, .webm or .gif")
    parser.add_argument(
        "--model", default=DEMO_MODEL, help="a local model folder in diffusers' layout (default: bundled)"
    )
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--start", type=float, default=0.0, help="seconds into the clip")
    parser.add_argument("--fps", type=float, help="frames per second to take (default: every frame)")
    parser.add_argument("--width", type=int, help="pixels, a multiple of 8 (default: the model's own)")
    parser.add_argument("--height", type=int, help="pixels, a multiple of 8 (default: the model's own)")
    _add_settings(parser)
    parser.add_argument(
        "--keep",
        choices=KEEP,
        help="sample the edit beside the clip, along its inversion or under fresh noise, so that what the prompt does "
        "not change stays; goes well with --denoise 0.75 (default: nothing, bundled model: noise)",
    )
    parser.add_argument(
        "--mask", help="with --keep: a video or folder of images, white where the edit may change the clip"
    )
    parser.add_argument(
        "--steady",
        action=argparse.BooleanOptionalAction,
        help="take the flicker out, along the motion of the clip (default: beside the clip)",
    )
    parser.add_argument(
        "--strength",
        type=_strength,
        default=1.0,
        help="of the tuning: between 0, the model without it, and 1 it fades, above 1 it is stronger; auto samples at "
        f"{', '.join(map(str, STRENGTHS))} and takes the one that balances prompt and clip best (default: 1)",
    )
    parser.add_argument(
        "--gradient-checkpointing",
        choices=(AUTO, *CHECKPOINTING),
        nargs="?",
        const=ON,
        default=AUTO,
        help="tune in less memory, more slowly, to the same result; selective takes most off for least time (default: "
        "auto, the first of off, selective and on that fits into the free memory)",
    )
    parser.add_argument(
        "--store",
        type=Path,
        help="a folder that keeps tunings and inversions: started again, the command goes on there",
    )
    add_device(parser)
    parser.add_argument(
        "--dtype",
        choices=(AUTO, "float32", "float16", "bfloat16"),
        default=AUTO,
        help="of frozen weights (default: auto, float16 on a GPU, float32 on a CPU and for the bundled model)",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    for flag, (parts, field, text) in SETTINGS.items():
        usual, bundled = (getattr(configs[parts[0]], field) for configs in (PUBLISHED, BUNDLED))
        shown = "the same" if usual is None else f"{usual:g}"
        default = shown if usual == bundled else f"{shown}, bundled model: {bundled:g}"
        parser.add_argument(flag, type=type(bundled), help=f"{text} (default: {default})")


def _strength(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number or auto is expected, not {text!r}") from None


def edit_settings(args: argparse.Namespace) -> tuple[TuningConfig, InversionConfig, SamplingConfig]:
    """The published settings, or the demo's for the bundled model, changed by what was given."""
    configs = dict(BUNDLED if args.model == DEMO_MODEL else PUBLISHED)
    if args.model == DEMO_MODEL and kept(args) == "nothing":
        configs["sample"] = SAMPLING
    for flag, (parts, field, _) in SETTINGS.items():
        if (given := getattr(args, flag[2:].replace("-", "_"))) is not None:
            configs |= {part: replace(configs[part], **{field: given}) for part in parts}
    return configs["tune"], configs["invert"], configs["sample"]


def kept(args: argparse.Namespace) -> str:
    """What the edit is sampled beside: what was given, or the published nothing; the clip under noise if bundled."""
    return args.keep or ("noise" if args.model == DEMO_MODEL else "nothing")


def steadied(args: argparse.Namespace) -> bool:
    """Whether the flicker is taken out of the edit: as was given, or if it is sampled beside the clip."""
    return kept(args) != "nothing" if args.steady is None else bool(args.steady)


def frozen_dtype(args: argparse.Namespace) -> torch.dtype:
    """As was given, or on a GPU float16, in which the published script computes; the bundled model is small."""
    if args.dtype != AUTO:
        return getattr(torch, args.dtype)
    half = args.device.type in LOSS_SCALING_DEVICES and args.model != DEMO_MODEL
    return torch.float16 if half else torch.float32
