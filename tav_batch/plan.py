"""The plan of a batch: which rows share a tuning, in which order, on how much disk and in what time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from tav_core.editing.config import SamplingConfig
from tav_core.job import EditJob
from tav_core.memory.estimate import OVERHEAD, estimate_memory
from tav_core.models.base import ASSETS, DEMO_MODEL
from tav_core.tuning.config import TuningConfig
from tav_core.unet.inflate import inflate
from tav_core.unet.video_unet import VideoUNet, trainable_parameters

from .handout import Group
from .jobs import Checked, Rows
from .simulate import simulate
from .times import StageTimes, machine

USUAL_SIZE = 512  # pixels, of a model whose own size is not known
PIXELS_PER_LATENT, CHANNELS = 8, 4  # of Stable Diffusion's autoencoder and the bundled one
BYTES_PER_PIXEL = 0.1  # of a video, about
CONTEXT = 0.6e9  # bytes that each process takes on a GPU beside its tensors
MOST_ON_A_CARD = 8


@dataclass(frozen=True)
class Disk:
    """Bytes that a batch leaves: of videos, of tuned weights, of inversions."""

    videos: float
    tunings: float
    inversions: float


def num_tunings(groups: Sequence[Group]) -> int:
    """How many clips are tuned."""
    return len(groups)


def disk(rows: Rows, groups: Sequence[Group]) -> Disk:
    """The disk space that a plan takes, about."""
    videos = tunings = inversions = 0.0
    for group in groups:
        jobs = [rows.job(number, Path("x.mp4")) for number in group.rows]
        size = image_size(group.model)
        pixels = jobs[0].num_frames * (jobs[0].width or size) * (jobs[0].height or size)
        videos += len(jobs) * pixels * BYTES_PER_PIXEL
        tunings += trained_bytes(group.model)
        steps = {job.settings().inversion.num_inference_steps for job in jobs if job.starts_from == "inversion"}
        inversions += sum(steps) * 4 * CHANNELS * pixels / PIXELS_PER_LATENT**2
    return Disk(videos, tunings, inversions)


def duration(rows: Rows, groups: Sequence[Group], workers: int, device: str) -> float | None:
    """Seconds that a plan takes by the stage times measured on this machine; None if there are none yet."""
    times, where = StageTimes.load(), machine(device)
    found: dict[int, tuple[float, float]] = {}
    for group in groups:
        for number in group.rows:
            job = rows.job(number, Path("x.mp4"))
            seconds = times.seconds(job, where, model_name(group.model), image_size(group.model))
            if seconds is None:
                return None
            found[number] = seconds
    return simulate(groups, found.__getitem__, workers).seconds


def model_name(model: str) -> str:
    """A model's name in the measured times."""
    return Path(model).name


@cache
def image_size(model: str) -> int:
    """Pixels of a model's own size, without loading it."""
    config = _unet_config(model)
    size = config.get("sample_size") if config else None
    return size * PIXELS_PER_LATENT if isinstance(size, int) else USUAL_SIZE


@cache
def trained_bytes(model: str) -> int:
    """Bytes of a model's tuned weights; 0 where a single file does not show its shape."""
    unet = _shape_of(model)
    return 0 if unet is None else sum(4 * weight.numel() for weight in trainable_parameters(unet).values())


def edits_on_a_card(jobs: Sequence[EditJob], model: str, free: float) -> int:
    """How many edits run at once in the free memory of a GPU, by the largest step of the jobs; at least one.

    Arguments:
        jobs: on this model.
        model: a folder, or the bundled model.
        free: bytes.
    """
    unet, size = _shape_of(model), image_size(model)
    if unet is None:
        return 1
    sizes = {(job.num_frames, job.height or size, job.width or size, job.weight_dtype) for job in jobs}
    peaks = [_peak(unet, frames, height, width, dtype) for frames, height, width, dtype in sizes]
    return max(1, min(MOST_ON_A_CARD, int(free / (OVERHEAD * max(peaks) + CONTEXT))))


def _peak(unet: VideoUNet, frames: int, height: int, width: int, dtype: torch.dtype) -> int:
    sides: dict[str, Any] = dict(
        num_frames=frames, height=height // PIXELS_PER_LATENT, width=width // PIXELS_PER_LATENT, dtype=dtype
    )
    tuning = TuningConfig(gradient_checkpointing="selective")
    return max(estimate_memory(unet, config, **sides).peak for config in (tuning, SamplingConfig()))


@cache
def _shape_of(model: str) -> VideoUNet | None:
    """A model's inflated UNet without its weights; None where a single file does not show it."""
    config = _unet_config(model)
    if config is None:
        return None
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    return inflate(unet.to_empty(device="cpu").eval().requires_grad_(False))  # memory that is never written to


def _unet_config(model: str) -> dict | None:
    folder = ASSETS / "demo-model" if model == DEMO_MODEL else Path(model)
    try:
        return json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def describe(rows: Rows, checked: Sequence[Checked], groups: Sequence[Group], workers: int, device: str) -> str:
    """The plan in words, as --dry-run prints it."""
    lines = []
    names = {row.number: row.name for row in checked}
    for group in groups:
        job = rows.job(group.rows[0], Path("x.mp4"))
        lines.append(f"{job.video}: tuned once on {group.model}, {len(group.rows)} edits")
        lines += [f"    {names[number]}: {rows.rows[number].values['prompt']}" for number in group.rows]
    edits, space = sum(len(group.rows) for group in groups), disk(rows, groups)
    lines.append(f"{edits} edits of {num_tunings(groups)} tunings, {workers} at a time.")
    lines.append(
        f"Disk, about: {space.videos / 1e6:.1f} MB of videos, {space.tunings / 1e6:.1f} MB of tuned weights, "
        f"{space.inversions / 1e6:.1f} MB of inversions."
    )
    seconds = duration(rows, groups, workers, device)
    if seconds is None:
        lines.append("Time: not known yet; no batch has measured stage times of this model on this machine.")
    else:
        lines.append(f"Time, by the stage times measured on this machine: {time_text(seconds)}.")
    return "\n".join(lines)


def time_text(seconds: float) -> str:
    """A duration in words: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
