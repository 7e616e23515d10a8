"""The controls of a job, from its folders and hints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..models.base import BaseModel
from ..models.control import HintControl, load_control
from ..video import read_video
from .job import EditJob

HINTS = ("canny", "lineart")  # of `video/hints.py`, which needs OpenCV


def read_controls(job: EditJob, model: BaseModel, frames: Tensor) -> tuple[HintControl, ...]:
    """Load the networks of a job, and read or draw their hints.

    Arguments:
        job: with as many hints as controls.
        model: on whose device they run, in its type.
        frames: of the clip, (f, h, w, 3) in [0, 1].

    Raises:
        OSError, TypeError, ValueError: if one cannot be read, or does not fit the clip.
    """
    folders, hints = job.control or (), job.hint or ()
    numbers = zip(*(_each(given, neutral, len(folders)) for given, neutral in (
        (job.control_scale, 1.0), (job.control_start, 0.0), (job.control_end, 1.0),
    )), strict=True)  # fmt: skip
    return tuple(
        HintControl(
            load_control(folder, device=job.device, dtype=model.unet.dtype), _hint(hint, frames, job), *settings
        )
        for folder, hint, settings in zip(folders, hints, numbers, strict=True)
    )


def _each(given: tuple[float, ...] | None, neutral: float, count: int) -> tuple[float, ...]:
    numbers = given or (neutral,)
    return numbers * count if len(numbers) == 1 else numbers


def _hint(hint: str | Path, frames: Tensor, job: EditJob) -> Tensor:
    """The hint of each frame, (f, h, w, 3) in [0, 1]; of a folder with one image, (1, h, w, 3).

    A video is taken as the clip is, from the same second on and at the same rate.
    """
    if hint in HINTS:
        from ..video.hints import draw_hints

        return draw_hints(str(hint), frames)
    taken: dict[str, Any] = {} if Path(hint).is_dir() else dict(num_frames=job.num_frames, start=job.start, fps=job.fps)
    return read_video(hint, width=frames.shape[2], height=frames.shape[1], **taken).frames
