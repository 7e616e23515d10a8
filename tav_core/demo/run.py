"""The demo: tune the bundled model on the bundled clip, edit it with four prompts, and measure every edit."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..atomic import write_text
from ..editing.config import SamplingConfig
from ..editor import ClipEditor
from ..job.run import Progress, Step
from ..metrics import background_psnr
from ..models.base import ASSETS, BUNDLED_CLIPS, load_model
from ..presets import BUNDLED
from ..tuning.config import TuningConfig
from ..video import read_video, write_video
from ..viz.figures import contact_sheet, save_loss_plot, save_picture, side_by_side
from . import shapes as world
from . import shapes_judge as judge

EDITS = {
    "colour": {"colour": "yellow"},
    "shape": {"shape": "circle"},
    "background": {"background": "maroon"},
    "colour-and-background": {"colour": "white", "background": "wavy"},
}


@dataclass(frozen=True)
class EditScore:
    """How well an edit shows its prompt and preserves its clip.

    success: share of frames that show the prompted shape, colour and background. position_error: median over frames, in
    pixels, of the distance from the source's path. background_psnr: in dB against the source, over the clip, None
    where the background was to change. size_jitter: standard deviation over mean of the object's radius along the clip.
    """

    success: float
    position_error: float
    background_psnr: float | None
    size_jitter: float


def score_edit(frames: np.ndarray, source: np.ndarray, scenes: list[world.Scene], words: dict[str, str]) -> EditScore:
    """Measure an edit of a clip whose truth is known.

    Arguments:
        frames, source: edit and source clip, (f, h, w, 3) in [0, 1].
        scenes: the truth of the source, one a frame.
        words: what the prompt changes, as `Scene.edited` takes it.
    """
    truth = [scene.edited(**words) for scene in scenes]
    readings = [judge.read(frame) for frame in frames]
    pairs = list(zip(readings, truth, strict=True))
    covered = np.stack(
        [world.draw(before)[1] + world.draw(after)[1] for before, after in zip(scenes, truth, strict=True)]
    )
    radii = np.array([reading.radius or 0.0 for reading in readings])
    return EditScore(
        success=float(np.mean([reading.shows(scene) for reading, scene in pairs])),
        position_error=float(np.median([reading.distance(scene) for reading, scene in pairs])),
        background_psnr=None if "background" in words else background_psnr(frames, source, covered),
        size_jitter=float(radii.std() / max(radii.mean(), 1e-6)),
    )


def run_demo(output: Path, progress: Progress, seed: int = 0, start_from: str = BUNDLED.start_from) -> dict[str, Any]:
    """Run the demo and write what it makes into `output`.

    Arguments:
        output: folder; made if missing, files of the same names are replaced.
        progress: wraps the steps of each stage to show them.
        seed: of the tuning.
        start_from: how the edits start, see `ClipEditor.edit`. Source-preserving edits are deflickered too.

    Returns:
        The report, as written to report.json.
    """
    return _Demo(output, progress, replace(BUNDLED.tuning, seed=seed), start_from).run()


class _Demo:
    """A demo while it runs."""

    def __init__(self, output: Path, progress: Progress, tuning: TuningConfig, start_from: str):
        self.output, self.progress, self.tuning, self.start_from = output, progress, tuning, start_from
        self.sampling = BUNDLED.sampling_from(start_from)
        self.seconds: dict[str, float] = {}
        self.source, self.scenes = read_video(BUNDLED_CLIPS["pink star"]), load_truth()
        self.editor = ClipEditor(load_model(), self.source.frames, self.scenes[0].caption)

    def run(self) -> dict[str, Any]:
        (self.output / "edits").mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        losses = [step.loss for step in self._watch("tune", self.editor.tune(self.tuning), self.tuning.steps)]
        inversion = self.editor.invert(BUNDLED.inversion)
        for _ in self._watch("invert", inversion, BUNDLED.inversion.num_inference_steps):
            pass
        unguided = replace(BUNDLED.sampling, guidance_scale=1.0)
        reconstruction = self._edit("reconstruction", "", unguided, "inversion")
        clips = {"source": self.source.frames, "reconstruction": reconstruction}
        edits = {name: self._edit_and_score(name, words, clips) for name, words in EDITS.items()}
        _write_pictures(self.output, clips, losses, self.source.fps)
        self.seconds["all"] = time.monotonic() - began
        report = self._report(edits, clips, losses)
        write_text(self.output / "report.json", json.dumps(report, indent=2, default=str) + "\n")
        return report

    def _watch(self, name: str, steps: Iterator[Step], total: int) -> Iterator[Step]:
        return _timed(self.seconds, name, self.progress(steps, name, total))

    def _edit(self, name: str, prompt: str, config: SamplingConfig, start_from: str) -> Tensor:
        """The frames of an edit."""
        steps = self.editor.schedule.timesteps(config.num_inference_steps, config.denoise)
        *_, last = self._watch(name, self.editor.edit(prompt, config, start_from=start_from), len(steps))
        frames = self.editor.decode(last.latents)
        preserving = start_from == "source_branch"
        return torch.stack(list(self.editor.deflicker(frames))) if preserving else frames

    def _edit_and_score(self, name: str, words: dict[str, str], clips: dict[str, Tensor]) -> dict[str, Any]:
        prompt = self.scenes[0].edited(**words).caption
        clips[prompt] = frames = self._edit(name, prompt, self.sampling, self.start_from)
        write_video(self.output / "edits" / f"{name}.mp4", frames, self.source.fps)
        score = score_edit(frames.numpy(), self.source.frames.numpy(), self.scenes, words)
        return {"prompt": prompt, "file": f"edits/{name}.mp4"} | asdict(score)

    def _report(self, edits: dict[str, Any], clips: dict[str, Tensor], losses: list[float]) -> dict[str, Any]:
        error = (clips["reconstruction"] - clips["source"]).square().mean()
        settings: dict[str, Any] = {"tuning": self.tuning, "inversion": BUNDLED.inversion, "sampling": self.sampling}
        described = {name: asdict(config) for name, config in settings.items()} | {"start_from": self.start_from}
        packages = ("torch", "diffusers", "transformers")
        return {
            "edits": edits,
            "source_prompt": self.scenes[0].caption,
            "reconstruction_psnr": float(-10 * error.log10()),
            "loss": {"first_20": float(np.mean(losses[:20])), "last_20": float(np.mean(losses[-20:]))},
            "settings": described,
            "seconds": {name: round(spent, 1) for name, spent in self.seconds.items()},
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        }


def _write_pictures(output: Path, clips: dict[str, Tensor], losses: list[float], fps: Fraction) -> None:
    write_video(output / "source.mp4", clips["source"], fps)
    write_video(output / "reconstruction.mp4", clips["reconstruction"], fps)
    write_video(output / "comparison.mp4", side_by_side(clips), fps)
    save_picture(output / "contact_sheet.png", contact_sheet(clips))
    save_loss_plot(output / "loss.png", losses)


def load_truth() -> list[world.Scene]:
    """The scenes of the bundled clip, one a frame."""
    return [world.Scene(**scene) for scene in json.loads((ASSETS / "demo-clip.json").read_text())["frames"]]


def _timed(times: dict[str, float], name: str, steps: Iterator[Step]) -> Iterator[Step]:
    began = time.monotonic()
    yield from steps
    times[name] = time.monotonic() - began
