"""Run one edit: tune, invert, sample, decode, write, and report."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..diffusion.schedule import NoiseSchedule
from ..editing.config import SamplingConfig
from ..editing.heat_maps import NUM_LEVELS
from ..editing.reconstruction import reconstruction_snr
from ..editing.samplers import sampler_of, schedule_of
from ..editing.strength import STRENGTHS, Trial, best_trial
from ..memory.budget import checkpointing_within, device_memory, out_of_memory_advice, peak_memory, ran_out_of_memory
from ..tuning.config import CHECKPOINTING, TuningConfig
from ..video import read_video, write_video
from ..viz.heat_maps import heat_map_grid
from .check import check_job
from .files import write_job
from .job import EditJob
from .options import AUTO, Settings
from .runner import KeptClip, KeptForNext

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
        source, edit: the clip and the edit before it was encoded, (f, h, w, 3) in [0, 1].
    """

    output: Path
    job: EditJob
    settings: Settings
    reconstruction_snr: float | None
    trials: tuple[Trial, ...]
    strength: float
    seconds: dict[str, float]
    peak_memory: int
    source: Tensor = field(repr=False, compare=False)
    edit: Tensor = field(repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Plain values: settings, versions, reconstruction, seconds, peak memory."""
        scores = ("strength", "prompt_score", "source_score")
        trials = [{name: getattr(trial, name) for name in scores} for trial in self.trials]
        values = {
            "output": self.output,
            "job": vars(self.job),
            "settings": asdict(self.settings),
            "versions": versions(),
            "reconstruction": {"snr_db": self.reconstruction_snr},
            "strength": {"taken": self.strength, "trials": trials},
            "seconds": {name: round(spent, 2) for name, spent in self.seconds.items()},
            "peak_memory_bytes": self.peak_memory,
        }
        return json.loads(json.dumps(values, default=str))  # paths, devices and types by their names


def versions(*more: str) -> dict[str, str]:
    """Of Python and of the packages that compute, and of more; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in (*more, "torch", "diffusers", "transformers"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def run_edit(job: EditJob, progress: Progress | None = None, kept: KeptForNext | None = None) -> EditReport:
    """Tune, invert, sample, decode and write the video, and the job as JSON beside it.

    Arguments:
        job: the edit.
        progress: wraps the steps of each stage to show them: progress(steps, label, how many).
        kept: the model and the clip of the edit before, for edits that follow each other; the result is the same.

    Raises:
        MemoryError: the device ran out of memory, with what to lower and to what.
        FloatingPointError, OSError, TypeError, ValueError: as the stages say.
    """
    check_job(job)
    return _Run(job, progress or (lambda steps, label, total: steps), kept or KeptForNext()).run()


class _Run:
    """One edit while it runs."""

    def __init__(self, job: EditJob, progress: Progress, kept: KeptForNext):
        self.job, self.progress = job, progress
        self.settings = _with_seed_where_drawn(job, job.settings())
        self.options: dict[str, Any] = {}  # of `ClipEditor.edit`
        self.seconds = dict.fromkeys(("tune", "invert", "sample", "decode"), 0.0)
        self.trials: tuple[Trial, ...] = ()
        self.snr: float | None = None
        self.strength = 1.0
        self.began = time.monotonic()
        self.kept = self._prepare(kept)

    def run(self) -> EditReport:
        job, editor, clip = self.job, self.kept.editor, self.kept.clip
        stage: TuningConfig | SamplingConfig = self.settings.tuning
        try:
            self._tune()
            stage = self.settings.sampling
            latents = self._search() if job.strength == AUTO else self._sample()
            with _timed(self.seconds, "decode"):
                frames = editor.decode(latents)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            given = editor.video_unet, editor.latents, editor.frames, stage, self.kept.controls
            raise MemoryError(out_of_memory_advice(*given)) from error
        if job.deflickers:
            frames = torch.stack(self._take(editor.deflicker(frames), "deflicker", len(frames)))
        write_video(job.output, frames, clip.fps, audio=clip.audio)
        if job.heat_maps is not None:
            write_video(job.heat_maps, self._heat_maps(latents, frames), clip.fps)
        write_job(job)
        self.seconds["all"] = time.monotonic() - self.began
        peak = peak_memory(editor.video_unet.device)
        outcome = self.snr, self.trials, self.strength, self.seconds, peak
        return EditReport(job.output, job, self.settings, *outcome, clip.frames, frames)

    def _prepare(self, kept: KeptForNext) -> KeptClip:
        """The model and the clip, and the gradient checkpointing that fits."""
        job, model = self.job, kept.model(self.job)
        sampling = self.settings.sampling  # steps that the model does not have raise before anything is tuned
        schedule = schedule_of(job.sampler, NoiseSchedule.from_scheduler(model.scheduler))
        schedule.timesteps(sampling.num_inference_steps, sampling.denoise)
        prepared = kept.clip(job)
        editor = prepared.editor
        mask = None if job.mask is None else _read_mask(job.mask, prepared.clip.frames)
        self.options = dict(start_from=job.starts_from, mask=mask, negative_prompt=job.negative_prompt)
        self.options["sampler"] = sampler_of(job.sampler)
        if job.gradient_checkpointing == AUTO:
            free, _ = device_memory(editor.video_unet.device)
            clips = editor.latents.expand(1 + len(job.more_video or ()), *editor.latents.shape[1:])
            controls = prepared.controls if job.control_tuning else ()
            given = editor.video_unet, clips, self.settings.tuning, free, controls
            level = checkpointing_within(*given)
        else:
            level = CHECKPOINTING[job.gradient_checkpointing]
        tuning = replace(self.settings.tuning, gradient_checkpointing=level)
        self.settings = replace(self.settings, tuning=tuning)
        return prepared

    def _tune(self) -> None:
        kept, tuning = self.kept, self.settings.tuning
        if kept.is_tuned(tuning):
            return
        kept.tuned = kept.inverted = None
        kept.editor.controls = kept.controls if self.job.control_tuning else ()
        self._take(kept.editor.tune(tuning), "tune", tuning.steps)
        kept.editor.controls, kept.tuned = kept.controls, tuning

    def _sample(self) -> Tensor:
        """The edit's latents at the strength of the job."""
        job, editor, sampling = self.job, self.kept.editor, self.settings.sampling
        editor.set_strength(float(job.strength))
        self.strength = float(job.strength)
        if job.starts_from == "inversion":
            self._invert()
        steps = editor.schedule.timesteps(sampling.num_inference_steps, sampling.denoise)
        return self._take(editor.edit(job.prompt, sampling, **self.options), "sample", len(steps))[-1].latents

    def _invert(self) -> None:
        """Invert the clip, and measure the reconstruction if there is a report."""
        kept, inversion = self.kept, self.settings.inversion
        editor = kept.editor
        if not kept.is_inverted(inversion):
            kept.inverted = kept.snr = None
            self._take(editor.invert(inversion), "invert", inversion.num_inference_steps)
            kept.inverted = inversion
        if self.job.report is not None and kept.snr is None:
            last = self._take(editor.reconstruct(), "reconstruct", len(editor.trajectory))[-1]
            kept.snr = reconstruction_snr(editor.latents, last.latents)
        self.snr = kept.snr if self.job.report is not None else None

    def _search(self) -> Tensor:
        """The edit's latents at the best of several strengths."""
        job, settings, editor = self.job, self.settings, self.kept.editor
        trials = editor.try_strengths(job.prompt, settings.sampling, inversion=settings.inversion, **self.options)
        self.trials = tuple(self._take(trials, "strength search", len(STRENGTHS)))
        best = best_trial(self.trials)
        self.strength = best.strength
        return best.latents

    def _heat_maps(self, latents: Tensor, frames: Tensor) -> Tensor:
        """The words of the prompt side by side, each over the edit: (f, h, w, 3) in [0, 1]."""
        prompt, editor = self.job.prompt, self.kept.editor
        maps = self._take(editor.heat_maps(prompt, latents), "heat maps", NUM_LEVELS)[-1].maps
        return heat_map_grid(frames, editor.word_heat_maps(prompt, maps))

    def _take(self, steps: Iterator[Step], label: str, total: int) -> list[Step]:
        """All steps of a stage, shown and timed."""
        with _timed(self.seconds, label):
            return list(self.progress(steps, label, total))


def _with_seed_where_drawn(job: EditJob, settings: Settings) -> Settings:
    """The settings without a seed of sampling where sampling draws nothing."""
    if job.starts_from != "inversion" or settings.sampling.eta or sampler_of(job.sampler):
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
