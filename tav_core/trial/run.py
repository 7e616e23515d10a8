"""Make and measure the edits of a trial, each once: what an earlier run has made is taken from the folder."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from ..atomic import make_folder
from ..evaluation import Encoders, evaluate
from ..job.run import EditReport, Progress, run_edit, versions
from ..job.runner import KeptForNext
from ..memory.budget import device_memory
from ..models.base import DEMO_MODEL, BaseModel
from ..video import write_video
from .plan import PlannedEdit
from .record import PACKAGE, Record, key_of, read_record, write_record

Step = TypeVar("Step")
SOURCE = "source.mp4"
SUMMED = 20  # losses at each end of a tuning whose mean is reported


@dataclass(frozen=True)
class Measuring:
    """Local folders of the learned models to measure with; None leaves out their measures."""

    clip: Path | None = None
    pickscore: Path | None = None
    dino: Path | None = None

    def load(self, device: torch.device | str) -> Encoders:
        """Load them.

        Raises:
            EncoderError: if a folder cannot be used.
        """
        return Encoders.load(self.clip, self.pickscore, self.dino, device)


def run_trial(
    edits: Sequence[PlannedEdit], folder: Path, progress: Progress, measuring: Measuring = Measuring()
) -> Iterator[Record]:
    """Make and measure each edit that the folder lacks.

    Tunings and inversions are in the folder's store, so that an edit that was killed resumes there. An edit whose
    numbers are not finite is recorded as failed and does not stop the others; the next run tries it again.

    Arguments:
        edits: as `plan_trial` makes them.
        folder: of the trial.
        progress: wraps the steps of each stage to show them.
        measuring: with which learned models.

    Yields:
        A record of each, in order.

    Raises:
        MemoryError, OSError, TypeError, ValueError: as `run_edit` says; what was made before is recorded.
    """
    make_folder(folder / "edits")
    runner: _Runner | None = None
    for edit in edits:
        key = key_of(edit.job, vars(measuring))
        found = read_record(edit, key)
        if found is None and runner is None:
            runner = _Runner(folder, progress, measuring.load(edit.job.device))
        yield found or runner.record(edit, key)  # type: ignore[union-attr]


@dataclass
class _Counted:
    """Shows the steps of each stage, and counts those that are made here, and their seconds."""

    progress: Progress
    steps: dict[str, int] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)  # by the number of the update

    def __call__(self, steps: Iterator[Step], label: str, total: int) -> Iterator[Step]:
        self.steps.setdefault(label, 0)
        for step in self.progress(steps, label, total):
            self.steps[label] += 1
            if (loss := getattr(step, "loss", None)) is not None:
                self.losses[step.step] = float(loss)
            yield step


class _Runner:
    """Makes edits that follow each other."""

    def __init__(self, folder: Path, progress: Progress, encoders: Encoders):
        self.folder, self.progress, self.encoders = folder, progress, encoders
        self.kept = KeptForNext()
        self.source_is_written = False

    def record(self, edit: PlannedEdit, key: str) -> Record:
        """Make an edit, measure it, and write what is known of it."""
        counted = _Counted(self.progress)
        device = torch.device(edit.job.device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            report = run_edit(edit.job, counted, self.kept)
        except FloatingPointError as error:
            self.kept.discard()
            return write_record(edit, key, {"error": type(error).__name__, "message": str(error)})
        return write_record(edit, key, self._values(edit, report, counted))

    def _values(self, edit: PlannedEdit, report: EditReport, counted: _Counted) -> dict[str, Any]:
        job, fps = edit.job, self.kept.clip(edit.job).clip.fps
        if not self.source_is_written:
            write_video(self.folder / SOURCE, report.source, fps)
            self.source_is_written = True
        began = time.monotonic()
        figures = evaluate(report.source, report.edit, job.prompt, job.source_prompt, self.encoders).figures
        seconds = report.seconds | {"measure": time.monotonic() - began}
        frames, height, width, _ = report.edit.shape
        return {
            "settings": json.loads(json.dumps(asdict(report.settings), default=str)),
            "lora_rank": job.lora_rank,
            "control_tuning": job.control_tuning if edit.control else None,
            "deflickered": job.deflickers,
            "figures": dict(figures),
            "seconds": {name: round(spent, 2) for name, spent in seconds.items()},
            "steps": counted.steps,
            "loss": _ends(counted.losses),
            "reconstruction_snr_db": report.reconstruction_snr,
            "peak_memory_bytes": report.peak_memory,
            "clip": {"num_frames": frames, "height": height, "width": width, "fps": float(fps)},
            "model": described_model(self.kept.model(job), bundled=job.model == DEMO_MODEL),
            "device": described_device(torch.device(job.device)),
            "versions": versions(PACKAGE),
        }


def _ends(losses: Mapping[int, float]) -> dict[str, float | None]:
    """The mean of the first losses and that of the last; None for what an earlier run has computed."""
    count, ends = max(losses, default=0), {}
    for name, numbers in (("first", range(1, SUMMED + 1)), ("last", range(count - SUMMED + 1, count + 1))):
        values = [losses.get(number) for number in numbers if 1 <= number <= count]
        complete = [loss for loss in values if loss is not None]
        ends[name] = sum(complete) / len(complete) if complete and len(complete) == len(values) else None
    return ends


def described_model(model: BaseModel, *, bundled: bool) -> dict[str, Any]:
    """What kind of model it is, by its sizes; nothing that names it."""
    config = model.unet.config
    widths = config.block_out_channels
    return {
        "bundled": bundled,
        "sdxl": model.text_encoder_2 is not None,
        "prediction_type": str(model.scheduler.config.prediction_type),
        "image_size": model.image_size,
        "block_out_channels": [int(width) for width in widths],
        "cross_attention_dim": int(config.cross_attention_dim),
        "parameters": sum(parameter.numel() for parameter in model.unet.parameters()),
        "dtype": str(model.unet.dtype).removeprefix("torch."),
    }


def described_device(device: torch.device) -> dict[str, Any]:
    """The kind of a device, its name where it is a GPU, and its memory in bytes."""
    cuda = device.type == "cuda"
    memory = device_memory(device)[1] if cuda else psutil.virtual_memory().total
    about: Mapping[str, Any] = {"type": device.type, "memory_bytes": int(memory), "system": platform.system()}
    return {**about, "name": torch.cuda.get_device_name(device) if cuda else platform.machine()}
