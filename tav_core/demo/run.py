"""The demo: tune the bundled model on the bundled clip, edit it with five prompts, and judge every edit.

The clip is drawn anew from its seed, so that it is free of the losses of a video file, and so is the truth about every
edit. One edit is made without tuning too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..atomic import write_text
from ..editing.config import InversionConfig, SamplingConfig
from ..editing.heat_maps import NUM_LEVELS
from ..editor import ClipEditor
from ..job.run import Progress, Step, versions
from ..metrics import psnr
from ..models.base import load_model
from ..presets import BUNDLED, LOOK, Preset
from ..video import write_video
from ..viz.figures import contact_sheet, save_loss_plot, save_picture, side_by_side
from ..viz.heat_maps import heat_map_grid
from .clip import bundled_clip
from .edits import EDITS, DemoEdit, HeatMaps, changes, judged
from .page import Shown, write_page
from .world import caption, draw

SHOWN = "place"  # the edit that shows what tuning is for: the gain is largest where the place is another
SHOWN_FROM = "inversion"  # how it starts, untuned and tuned: a source branch preserves the motion by itself
RECONSTRUCTION = InversionConfig(num_inference_steps=6, refinements=6)  # the cheapest within 1 dB: docs/LOG.md


def run_demo(
    output: Path,
    progress: Progress,
    *,
    preset: Preset = BUNDLED,
    seed: int = 0,
    start_from: str | None = None,
    num_frames: int | None = None,
) -> dict[str, Any]:
    """Run the demo and write what it makes into `output`.

    Arguments:
        output: folder; made if missing, files of the same names are replaced.
        progress: wraps the steps of each stage to show them.
        preset: all settings.
        seed: of the tuning.
        start_from: how the edits start, see `ClipEditor.edit`; None as the preset says. Source-preserving edits are
            deflickered too.
        num_frames: of the clip; None for all.

    Returns:
        The report, as written to report.json.
    """
    preset = replace(preset, tuning=replace(preset.tuning, seed=seed), start_from=start_from or preset.start_from)
    return _Demo(output, progress, preset, num_frames).run()


class _Demo:
    """A demo while it runs."""

    def __init__(self, output: Path, progress: Progress, preset: Preset, num_frames: int | None):
        self.output, self.progress, self.preset = output, progress, preset
        self.seconds: dict[str, float] = {}
        self.clip = bundled_clip()
        self.source = draw(self.clip.scene, self.clip.words, num_frames or self.clip.num_frames)
        self.editor = ClipEditor(load_model(), torch.from_numpy(self.source.frames), self.clip.caption)

    def run(self) -> dict[str, Any]:
        began = time.monotonic()
        untuned = self._shown("untuned")
        losses = [step.loss for step in self._watch("tune", self.editor.tune(self.preset.tuning), self._tuning_steps)]
        reconstruction = self._reconstruct()
        self._prepare(self.preset.start_from, "invert")
        edits = {name: self._edit(name) for name in EDITS}
        tuned = edits[SHOWN] if self.preset.start_from == SHOWN_FROM else self._shown("tuned")
        shown = Shown(self.clip, self.editor.frames, reconstruction, untuned, tuned, list(edits.values()))
        files = self._write(shown, losses)
        self.seconds["all"] = time.monotonic() - began
        report = self._report(shown, files, losses)
        write_page(self.output / "report.html", shown, report)
        write_text(self.output / "report.json", json.dumps(report, indent=2, default=str) + "\n")
        return report

    @property
    def _tuning_steps(self) -> int:
        return self.preset.tuning.steps

    def _watch(self, label: str, steps: Iterator[Step], total: int) -> Iterator[Step]:
        began = time.monotonic()
        yield from self.progress(steps, label, total)
        self.seconds[label] = time.monotonic() - began

    def _last(self, label: str, steps: Iterator[Step], total: int) -> Step:
        *_, last = self._watch(label, steps, total)
        return last

    def _prepare(self, start_from: str, label: str) -> None:
        """Invert the clip, as published, where edits start from its inversion."""
        if start_from == "inversion":
            config = self.preset.inversion
            self._last(label, self.editor.invert(config), config.num_inference_steps)

    def _shown(self, state: str) -> DemoEdit:
        """The edit that shows what tuning is for, by the model as it is: "untuned" or "tuned"."""
        self._prepare(SHOWN_FROM, f"invert, {state}")
        latents = self._sample(f"{SHOWN}, {state}", SHOWN, SHOWN_FROM)
        return judged(f"{SHOWN}-{state}", EDITS[SHOWN], self._finished(latents, SHOWN_FROM), self.source)

    def _reconstruct(self) -> Tensor:
        """The frames of the clip, inverted exactly under its caption and sampled again."""
        total, prompt = RECONSTRUCTION.num_inference_steps, self.clip.caption
        self._last("invert exactly", self.editor.invert(RECONSTRUCTION, prompt), total)
        last = self._last("reconstruction", self.editor.reconstruct(prompt), total)
        return self.editor.decode(last.latents)

    def _sample(self, label: str, name: str, start_from: str) -> Tensor:
        """The latents of an edit."""
        config: SamplingConfig = self.preset.sampling_from(start_from, changes(EDITS[name]))
        steps = self.editor.edit(self._prompt(name), config, start_from=start_from)
        total = len(self.editor.schedule.timesteps(config.num_inference_steps, config.denoise))
        return self._last(label, steps, total).latents

    def _prompt(self, name: str) -> str:
        return caption(self.clip.words | EDITS[name])

    def _finished(self, latents: Tensor, start_from: str) -> Tensor:
        """The frames of an edit."""
        frames = self.editor.decode(latents)
        return torch.stack(list(self.editor.deflicker(frames))) if start_from == "source_branch" else frames

    def _edit(self, name: str) -> DemoEdit:
        start_from = self.preset.start_from
        latents = self._sample(name, name, start_from)
        frames = self._finished(latents, start_from)
        return judged(name, EDITS[name], frames, self.source, self._heat_maps(name, latents))

    def _heat_maps(self, name: str, latents: Tensor) -> HeatMaps:
        prompt = self._prompt(name)
        last = self._last(f"{name}, heat maps", self.editor.heat_maps(prompt, latents), NUM_LEVELS)
        return self.editor.word_heat_maps(prompt, last.maps)

    def _write(self, shown: Shown, losses: list[float]) -> dict[str, dict[str, str]]:
        """Write all videos and pictures; returns the files of each edit, relative to the output."""
        clips = {f"source: {self.clip.caption}": shown.source, "reconstruction": shown.reconstruction}
        clips[f"untuned: {shown.untuned.prompt}"] = shown.untuned.frames
        clips |= {edit.prompt: edit.frames for edit in shown.edits}
        self._save("source.mp4", shown.source)
        self._save("reconstruction.mp4", shown.reconstruction)
        self._save("comparison.mp4", side_by_side(clips, columns=4))
        save_picture(self.output / "contact_sheet.png", contact_sheet(clips))
        save_loss_plot(self.output / "loss.png", losses)
        return {edit.name: self._write_edit(edit) for edit in {*shown.edits, shown.untuned, shown.tuned}}

    def _write_edit(self, edit: DemoEdit) -> dict[str, str]:
        files = {"file": f"edits/{edit.name}.mp4", "truth": f"truth/{edit.name}.mp4"}
        self._save(files["file"], edit.frames)
        self._save(files["truth"], edit.truth)
        if edit.heat_maps:
            files["heat_maps"] = f"heat_maps/{edit.name}.mp4"
            self._save(files["heat_maps"], heat_map_grid(edit.frames, edit.heat_maps))
        return files

    def _save(self, name: str, frames: Tensor) -> None:
        write_video(self.output / name, frames, self.clip.fps)

    def _report(self, shown: Shown, files: dict[str, dict[str, str]], losses: list[float]) -> dict[str, Any]:
        source = shown.source
        round_trip = self.editor.decode(self.editor.latents)
        preset = self.preset
        settings: dict[str, Any] = {"tuning": preset.tuning, "inversion": preset.inversion}
        settings |= {"reconstruction": RECONSTRUCTION, "sampling": preset.sampling_from(preset.start_from)}
        settings |= {"sampling_look": preset.sampling_from(preset.start_from, LOOK)}
        settings |= {"sampling_tuning": preset.sampling_from(SHOWN_FROM)}
        described = {name: asdict(config) for name, config in settings.items()}
        return {
            "edits": {edit.name: files[edit.name] | edit.as_json() for edit in shown.edits},
            "tuning": {
                "untuned": files[shown.untuned.name] | shown.untuned.as_json(),
                "tuned": files[shown.tuned.name] | shown.tuned.as_json(),
                "start_from": SHOWN_FROM,
            },
            "source_prompt": self.clip.caption,
            "num_frames": len(source),
            "reconstruction_psnr": psnr(shown.reconstruction.numpy(), source.numpy()),
            "round_trip_psnr": psnr(round_trip.numpy(), source.numpy()),
            "loss": {"first_20": float(np.mean(losses[:20])), "last_20": float(np.mean(losses[-20:]))},
            "settings": described | {"start_from": preset.start_from},
            "seconds": {name: round(spent, 1) for name, spent in self.seconds.items()},
            "versions": versions(),
        }
