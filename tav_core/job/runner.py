"""What edits that follow each other share: the model, and the clip with its tuning and its inversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..diffusion.schedule import NoiseSchedule
from ..editing.config import InversionConfig
from ..editing.samplers import schedule_of
from ..editor import ClipEditor
from ..models.base import BaseModel, load_model
from ..models.control import HintControl
from ..store import Store
from ..tuning.clips import raise_unless_one_rate
from ..tuning.config import TuningConfig
from ..video import VideoClip, read_video
from .controls import read_controls
from .job import EditJob


@dataclass(eq=False)
class KeptClip:
    """A clip on a model.

    Attributes:
        editor: of the clip.
        clip: as it was read.
        controls: of its edits.
        tuned, inverted: the settings of the tuning and of the inversion that the editor holds; None for none.
        snr: dB of that inversion sampled again, once it is known.
    """

    editor: ClipEditor
    clip: VideoClip
    controls: tuple[HintControl, ...] = ()
    tuned: TuningConfig | None = None
    inverted: InversionConfig | None = None
    snr: float | None = None

    def is_tuned(self, config: TuningConfig) -> bool:
        """Whether the editor holds this tuning; checkpointing, which changes rounding at most, does not count."""
        same = replace(config, gradient_checkpointing=False)
        return self.tuned is not None and replace(self.tuned, gradient_checkpointing=False) == same

    def is_inverted(self, config: InversionConfig) -> bool:
        """Whether the editor holds this inversion by the weights as they are."""
        return self.inverted == config and bool(self.editor.trajectory)


class KeptForNext:
    """The model and the clip of the last edit, for the next one. One of each is kept.

    Arguments:
        store: of tunings and inversions, in place of the jobs' own; None for theirs.
    """

    def __init__(self, store: Store | None = None):
        self._store = store
        self._model: tuple[tuple, BaseModel] | None = None
        self._clip: tuple[tuple, KeptClip] | None = None

    def model(self, job: EditJob) -> BaseModel:
        """The model of a job, loaded unless the last job had it."""
        key = (str(job.model), str(job.device), job.weight_dtype)
        if self._model is None or self._model[0] != key:
            self._model = self._clip = None  # before another one is loaded
            self._model = (key, load_model(job.model, device=job.device, dtype=job.weight_dtype))
        return self._model[1]

    def clip(self, job: EditJob) -> KeptClip:
        """The clip of a job on its model, read unless the last job had it.

        Raises:
            OSError, TypeError, ValueError: if it cannot be read.
        """
        model = self.model(job)
        width, height = job.width or model.image_size, job.height or model.image_size
        taken: dict[str, Any] = dict(num_frames=job.num_frames, start=job.start, fps=job.fps)
        taken |= dict(width=width, height=height)
        controlled = job.control, job.hint, job.control_scale, job.control_start, job.control_end, job.control_tuning
        more = job.more_video, job.more_source_prompt
        key = (str(job.video), job.source_prompt, str(job.store), *taken.values(), job.lora_rank, job.sampler)
        key += tuple(map(str, (*controlled, *more)))
        if self._clip is None or self._clip[0] != key:
            self._clip = None
            read = read_video(job.video, **taken)
            store = self._store or (None if job.store is None else Store(job.store))
            options: dict[str, Any] = dict(more_clips=_more_clips(job, read, taken), lora_rank=job.lora_rank)
            options["scheduler"] = schedule_of(job.sampler, NoiseSchedule.from_scheduler(model.scheduler))
            editor = ClipEditor(model, read.frames, job.source_prompt, store=store, **options)
            editor.controls = controls = read_controls(job, model, read.frames)
            self._clip = (key, KeptClip(editor, read, controls))
        return self._clip[1]

    def discard(self) -> None:
        """Keep nothing, such as after an error that may have left the model changed."""
        self._model = self._clip = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _more_clips(job: EditJob, first: VideoClip, taken: dict[str, Any]) -> list[tuple[Tensor, str]]:
    """Frames and caption of each other clip, taken as the first one is.

    Raises:
        OSError, ValueError: if one cannot be read, or has another frame rate.
    """
    clips = []
    given = zip(job.more_video or (), job.more_source_prompt or (), strict=True)
    for number, (video, caption) in enumerate(given, 2):
        read = read_video(video, **taken)
        raise_unless_one_rate(number, float(read.fps), float(first.fps), "give --fps, at which all are taken")
        clips.append((read.frames, caption))
    return clips
