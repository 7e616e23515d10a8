"""The demo: tune the bundled model on the bundled clip, edit it with four prompts, and measure every edit."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..diffusion.schedule import NoiseSchedule
from ..editing.inversion import InversionConfig
from ..editing.sampling import SamplingConfig
from ..editor import ClipEditor
from ..metrics import background_psnr
from ..models.base import ASSETS, load_model
from ..tuning.config import TuningConfig
from ..video import read_video, write_video
from ..viz.figures import contact_sheet, save_loss_plot, save_picture, side_by_side
from . import shapes as world
from . import shapes_judge as judge

Step = TypeVar("Step")
Progress = Callable[[Iterator[Step], str, int], Iterator[Step]]  # steps, label, how many -> the same steps, shown

# Found on other clips than those that are reported on: docs/LOG.md.
TUNING = TuningConfig(steps=150, learning_rate=3e-4, timestep_range=0.8)
INVERSION = InversionConfig(num_inference_steps=50)
SAMPLING = SamplingConfig(num_inference_steps=50, guidance_scale=2.5, denoise=0.8)
BESIDE = replace(SAMPLING, denoise=0.75, early_guidance_scale=4.0)  # for edits beside the clip

EDITS = {
    "colour": {"colour": "yellow"},
    "shape": {"shape": "circle"},
    "background": {"background": "maroon"},
    "colour-and-background": {"colour": "white", "background": "wavy"},
}


@dataclass(frozen=True)
class EditScore:
    """How an edit did against what was asked of it.

    success: share of frames that show the asked shape, colour and background. position_error: median over frames, in
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
        words: what the edit was asked to change, as `Scene.edited` takes it.
    """
    asked = [scene.edited(**words) for scene in scenes]
    readings = [judge.read(frame) for frame in frames]
    pairs = list(zip(readings, asked, strict=True))
    covered = np.stack(
        [world.draw(before)[1] + world.draw(after)[1] for before, after in zip(scenes, asked, strict=True)]
    )
    radii = np.array([reading.radius or 0.0 for reading in readings])
    return EditScore(
        success=float(np.mean([reading.shows(scene) for reading, scene in pairs])),
        position_error=float(np.median([reading.distance(scene) for reading, scene in pairs])),
        background_psnr=None if "background" in words else background_psnr(frames, source, covered),
        size_jitter=float(radii.std() / max(radii.mean(), 1e-6)),
    )


def run_demo(output: Path, progress: Progress, seed: int = 0, keep: str = "noise") -> dict[str, Any]:
    """Run the demo and write what it makes into `output`.

    Arguments:
        output: folder; made if missing, files of the same names are replaced.
        progress: wraps the steps of each long part to show them.
        seed: of the tuning.
        keep: how the edits keep to the clip, see `ClipEditor.edit`; "nothing" is the published way. The others are
            steadied too.

    Returns:
        The report, as written to report.json.
    """
    (output / "edits").mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    source = read_video(ASSETS / "demo-clip.mp4")
    scenes = load_truth()
    editor = ClipEditor(load_model(), source.frames, scenes[0].caption)
    schedule = NoiseSchedule.from_scheduler(editor.model.scheduler)
    times: dict[str, float] = {}

    def watch(name: str, steps: Iterator[Step], total: int) -> Iterator[Step]:
        return _timed(times, name, progress(steps, name, total))

    def edit(name: str, prompt: str, config: SamplingConfig, keep: str = "nothing") -> Tensor:
        steps = schedule.timesteps(config.num_inference_steps, config.denoise)
        *_, last = watch(name, editor.edit(prompt, config, keep=keep), len(steps))
        frames = editor.decode(last.latents)
        return frames if keep == "nothing" else torch.stack(list(editor.steady(frames)))

    tuning = replace(TUNING, seed=seed)
    losses = [step.loss for step in watch("tune", editor.tune(tuning), tuning.steps)]
    for _ in watch("invert", editor.invert(INVERSION), INVERSION.num_inference_steps):
        pass
    unguided = replace(SAMPLING, guidance_scale=1.0)
    sampling = SAMPLING if keep == "nothing" else BESIDE
    clips = {"source": source.frames, "reconstruction": edit("reconstruction", "", unguided)}
    edits: dict[str, Any] = {}
    for name, words in EDITS.items():
        prompt = scenes[0].edited(**words).caption
        clips[prompt] = frames = edit(name, prompt, sampling, keep)
        write_video(output / "edits" / f"{name}.mp4", frames, source.fps)
        score = score_edit(frames.numpy(), source.frames.numpy(), scenes, words)
        edits[name] = {"prompt": prompt, "file": f"edits/{name}.mp4"} | asdict(score)

    _write_pictures(output, clips, losses, source.fps)
    settings: dict[str, Any] = {"tuning": tuning, "inversion": INVERSION, "sampling": sampling}
    error = (clips["reconstruction"] - source.frames).square().mean()
    times["all"] = time.monotonic() - began
    report = {
        "edits": edits,
        "source_prompt": scenes[0].caption,
        "reconstruction_psnr": float(-10 * error.log10()),
        "loss": {"first_20": float(np.mean(losses[:20])), "last_20": float(np.mean(losses[-20:]))},
        "settings": {name: asdict(config) for name, config in settings.items()} | {"keep": keep},
        "seconds": {name: round(spent, 1) for name, spent in times.items()},
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("torch", "diffusers", "transformers")},
    }
    (output / "report.json").write_text(json.dumps(report, indent=2, default=str) + "\n")
    return report


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
