"""The options of `edit`, named as the fields of `EditJob`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..editing.edit import START_FROM
from ..editing.strength import STRENGTHS
from ..job import AUTO, DTYPES, SETTINGS
from ..models.base import DEMO_MODEL
from ..presets import BUNDLED, PUBLISHED, Preset
from ..tuning.config import CHECKPOINTING
from .device import add_device

ON = "on"
HELP = {  # settings of a job: what help says of each
    "tuning_steps": "updates of the weights",
    "learning_rate": "of the tuning",
    "timestep_range": "share of the noise levels that tuning draws from, in (0, 1]",
    "num_inference_steps": "steps of inversion and of sampling",
    "refinements": "more predictions for each step of inversion, for a closer reconstruction",
    "guidance_scale": "how strongly the prompt acts",
    "high_noise_guidance_scale": "the guidance scale at high noise, where the layout is decided",
    "denoise": "share of the steps that is sampled, in (0, 1]; less preserves more of the clip",
    "seed": "of noise and timesteps",
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
        "--start-from",
        choices=START_FROM,
        help="inversion: the inverted clip, as published; noise: fresh noise; source_branch: a source-preserving edit, "
        "goes well with --denoise 0.75 (default: inversion, bundled model: source_branch)",
    )
    parser.add_argument(
        "--mask", help="with source_branch: a video or folder of images, white where the edit may change the clip"
    )
    parser.add_argument(
        "--deflicker",
        action=argparse.BooleanOptionalAction,
        help="deflicker the edit along the optical flow of the clip (default: with source_branch)",
    )
    parser.add_argument(
        "--strength",
        type=_strength,
        default=1.0,
        help="of the tuning: 0 is the untuned model, above 1 it is extended; auto samples at "
        f"{', '.join(map(str, STRENGTHS))} and takes the one that scores best on prompt and clip (default: 1)",
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
        help="a folder that saves tunings and inversions: started again, the command resumes from there",
    )
    parser.add_argument("--report", type=Path, help="a JSON file for settings, versions, times and memory")
    add_device(parser)
    parser.add_argument(
        "--dtype",
        choices=(AUTO, *DTYPES),
        default=AUTO,
        help="of frozen weights (default: auto, float16 on a GPU, float32 on a CPU and for the bundled model)",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    for name, text in HELP.items():
        stages, field = SETTINGS[name]
        usual, bundled = (getattr(_config(preset, stages[0]), field) for preset in (PUBLISHED, BUNDLED))
        shown = "the same" if usual is None else f"{usual:g}"
        default = shown if usual == bundled else f"{shown}, bundled model: {bundled:g}"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(bundled), help=f"{text} (default: {default})")


def _config(preset: Preset, stage: str) -> object:
    return preset.sampling_from(preset.start_from) if stage == "sampling" else getattr(preset, stage)


def _strength(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number or auto is expected, not {text!r}") from None
