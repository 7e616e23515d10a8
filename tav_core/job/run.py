"""Run one edit: tune, invert, sample, decode, write, and report."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..diffusion.schedule import NoiseSchedule
from ..editing.config import SamplingConfig
from ..editing.heat_maps import NUM_LEVELS
from ..editing.reconstruction import reconstruction_snr
from ..editing.strength import STRENGTHS, Trial, best_trial
from ..editor import ClipEditor
from ..memory.budget import checkpointing_within, device_memory, out_of_memory_advice, peak_memory, ran_out_of_memory
from ..models.base import load_model
from ..store import Store
from ..tuning.config import CHECKPOINTING, TuningConfig
from ..video import VideoClip, read_video, write_video
from ..viz.heat_maps import heat_map_grid
from .job import AUTO, EditJob, Settings

Step = TypeVar("Step")
Progress = Callable[[Iterator[Step], str, int], Iterator[Step]]  # steps, label, how many -> the same steps, shown


@dataclass(frozen=True)
class EditReport:
    """What an edit came to.

    Attributes:
        output: the video.
        job: the job that was run.
        settings: of each stage, with the gradient checkpointing that was chosen.
        reconstruction_snr: dB of the inverted clip sampled again, where there is a report and an inversion; else None.
        trials: of the strength search; empty without one.
        strength: of the tuning, as set or found.
        seconds: by stage: "tune", "invert", "sample", "decode", "all".
        peak_memory: bytes, on a GPU of tensors, else of the process.
    """

    output: Path
    job: EditJob
    settings: Settings
    reconstruction_snr: float | None
    trials: tuple[Trial, ...]
    strength: float
    seconds: dict[str, float]
    peak_memory: int

    def as_json(self) -> dict[str, Any]:
        """Plain values: settings, versions, reconstruction, seconds, peak memory."""
        packages = ("torch", "diffusers", "transformers")
        scores = ("strength", "prompt_score", "source_score")
        trials = [{name: getattr(trial, name) for name in scores} for trial in self.trials]
        values = {
            "output": self.output,
            "job": vars(self.job),
            "settings": asdict(self.settings),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
            "reconstruction": {"snr_db": self.reconstruction_snr},
            "strength": {"taken": self.strength, "trials": trials},
            "seconds": {name: round(spent, 2) for name, spent in self.seconds.items()},
            "peak_memory_bytes": self.peak_memory,
        }
        return json.loads(json.dumps(values, default=str))  # paths, devices and types by their names


def run_edit(job: EditJob, progress: Progress | None = None) -> EditReport:
    """Tune, invert, sample, decode and write.

    Arguments:
        job: the edit.
        progress: wraps the steps of each stage to show them: progress(steps, label, how many).

    Raises:
        MemoryError: the device ran out of memory, with what to lower and to what.
        FloatingPointError, OSError, TypeError, ValueError: as the stages say.
    """
    job.check()
    return _Run(job, progress or (lambda steps, label, total: steps)).run()


class _Run:
    """One edit while it runs."""

    def __init__(self, job: EditJob, progress: Progress):
        self.job, self.progress = job, progress
        self.settings = _with_seed_where_drawn(job, job.settings())
        self.options: dict[str, Any] = {}  # of `ClipEditor.edit`
        self.seconds = dict.fromkeys(("tune", "invert", "sample", "decode"), 0.0)
        self.trials: tuple[Trial, ...] = ()
        self.snr: float | None = None
        self.strength = 1.0

    def run(self) -> EditReport:
        began = time.monotonic()
        editor, clip = self._prepare()
        stage: TuningConfig | SamplingConfig = self.settings.tuning
        try:
            self._take(editor.tune(self.settings.tuning), "tune", self.settings.tuning.steps)
            stage = self.settings.sampling
            latents = self._search(editor) if self.job.strength == AUTO else self._sample(editor)
            with _timed(self.seconds, "decode"):
                frames = editor.decode(latents)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            raise MemoryError(out_of_memory_advice(editor.video_unet, editor.latents, editor.frames, stage)) from error
        if self.job.deflickers:
            frames = torch.stack(self._take(editor.deflicker(frames), "deflicker", len(frames)))
        write_video(self.job.output, frames, clip.fps, audio=clip.audio)
        if self.job.heat_maps is not None:
            write_video(self.job.heat_maps, self._heat_maps(editor, latents, frames), clip.fps)
        self.seconds["all"] = time.monotonic() - began
        peak = peak_memory(editor.video_unet.device)
        outcome = self.snr, self.trials, self.strength, self.seconds, peak
        return EditReport(self.job.output, self.job, self.settings, *outcome)

    def _prepare(self) -> tuple[ClipEditor, VideoClip]:
        """The model and the clip, and the gradient checkpointing that fits."""
        job = self.job
        model = load_model(job.model, device=job.device, dtype=job.weight_dtype)
        sampling = self.settings.sampling  # steps that the model does not have raise before anything is tuned
        NoiseSchedule.from_scheduler(model.scheduler).timesteps(sampling.num_inference_steps, sampling.denoise)
        width, height = job.width or model.image_size, job.height or model.image_size
        clip = read_video(
            job.video, num_frames=job.num_frames, start=job.start, fps=job.fps, width=width, height=height
        )
        mask = None if job.mask is None else _read_mask(job.mask, clip.frames)
        self.options = dict(start_from=job.starts_from, mask=mask, negative_prompt=job.negative_prompt)
        store = None if job.store is None else Store(job.store)
        editor = ClipEditor(model, clip.frames, job.source_prompt, store=store)
        if job.gradient_checkpointing == AUTO:
            free, _ = device_memory(editor.video_unet.device)
            level = checkpointing_within(editor.video_unet, editor.latents, self.settings.tuning, free)
        else:
            level = CHECKPOINTING[job.gradient_checkpointing]
        tuning = replace(self.settings.tuning, gradient_checkpointing=level)
        self.settings = replace(self.settings, tuning=tuning)
        return editor, clip

    def _sample(self, editor: ClipEditor) -> Tensor:
        """The edit's latents at the strength of the job."""
        editor.set_strength(float(self.job.strength))
        self.strength, inversion, sampling = float(self.job.strength), self.settings.inversion, self.settings.sampling
        if self.job.starts_from == "inversion":
            self._take(editor.invert(inversion), "invert", inversion.num_inference_steps)
            if self.job.report is not None:
                last = self._take(editor.reconstruct(), "reconstruct", len(editor.trajectory))[-1]
                self.snr = reconstruction_snr(editor.latents, last.latents)
        steps = editor.schedule.timesteps(sampling.num_inference_steps, sampling.denoise)
        return self._take(editor.edit(self.job.prompt, sampling, **self.options), "sample", len(steps))[-1].latents

    def _search(self, editor: ClipEditor) -> Tensor:
        """The edit's latents at the best of several strengths."""
        job, settings = self.job, self.settings
        trials = editor.try_strengths(job.prompt, settings.sampling, inversion=settings.inversion, **self.options)
        self.trials = tuple(self._take(trials, "strength search", len(STRENGTHS)))
        best = best_trial(self.trials)
        self.strength = best.strength
        return best.latents

    def _heat_maps(self, editor: ClipEditor, latents: Tensor, frames: Tensor) -> Tensor:
        """The words of the prompt side by side, each over the edit: (f, h, w, 3) in [0, 1]."""
        prompt = self.job.prompt
        maps = self._take(editor.heat_maps(prompt, latents), "heat maps", NUM_LEVELS)[-1].maps
        return heat_map_grid(frames, editor.word_heat_maps(prompt, maps))

    def _take(self, steps: Iterator[Step], label: str, total: int) -> list[Step]:
        """All steps of a stage, shown and timed."""
        with _timed(self.seconds, label):
            return list(self.progress(steps, label, total))


def _with_seed_where_drawn(job: EditJob, settings: Settings) -> Settings:
    """The settings without a seed of sampling where sampling draws nothing."""
    if job.starts_from != "inversion" or settings.sampling.eta:
        return settings
    return replace(settings, sampling=replace(settings.sampling, seed=SamplingConfig.seed))


@contextmanager
def _timed(seconds: dict[str, float], label: str) -> Iterator[None]:
    """Add the seconds of a block to those of a label."""
    began = time.monotonic()
    yield
    seconds[label] = seconds.get(label, 0.0) + time.monotonic() - began


def _read_mask(path: str | Path, frames: Tensor) -> Tensor:
    """The brightness of a mask at the size of the frames, (f, h, w) or (1, h, w)."""
    drawn = read_video(path, width=frames.shape[2], height=frames.shape[1]).frames.mean(-1)
    if len(drawn) not in (1, len(frames)):
        raise ValueError(f"--mask has {len(drawn)} frames and the clip {len(frames)}; give as many, or one for all.")
    return drawn
