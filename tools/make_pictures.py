"""Draw the pictures of the package anew, from what the bundled model does in a real ComfyUI, at full settings.

    COMFYUI_PATH=... COMFYUI_PYTHON=... python -m tools.make_pictures [NAME ...]

NAME is that of a workflow, whose thumbnail is drawn from its own run, or emblems (docs/icon.png and docs/banner.png).
All are drawn if none is given. It says how long each workflow took. The tuning runs once: the store of the pack holds
it for the others.

Those of Stable Diffusion have no weights to run on here: they run on the bundled model, with its settings, in place of
the checkpoint, and their thumbnails say so.
"""

import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tav_core.presets import BUNDLED
from tav_core.viz.figures import contact_sheet
from tests.comfyui.client import ROOT, Outcome, Server
from tests.comfyui.prompts import SOURCE, node
from tools.workflows.parts import SECOND
from tools.workflows.schemas import read_schemas

EXAMPLES, DOCS = ROOT / "example_workflows", ROOT / "docs"
ON_STABLE_DIFFUSION = ("edit_sd15", "edit_sd15_content", "edit_sd15_lora")
QUICKSTART, SEVERAL, CLIPS = "quickstart_bundled_model", "several_prompts", "several_clips"
SHOWN_FRAMES = 4
SAMPLERS = ("TAVSample", "KSamplerAdvanced")


class Runs:
    """The workflows in one host, each run once and only if a picture needs it."""

    def __init__(self, server: Server):
        self.server = server
        self._made: dict[str, tuple[dict[str, Tensor], Outcome]] = {}

    def clips(self, name: str) -> list[tuple[str, Tensor]]:
        """The clip of a workflow, then its edits, by their captions: each (f, h, w, 3) in [0, 1]."""
        return list(self._made_of(name)[0].items())

    def outcome(self, name: str) -> Outcome:
        return self._made_of(name)[1]

    def _made_of(self, name: str) -> tuple[dict[str, Tensor], Outcome]:
        if name not in self._made:
            self._made[name] = run_tapped(self.server, name)
        return self._made[name]


def main(wanted: list[str]) -> None:
    unknown = set(wanted) - set(PICTURES)
    if unknown:
        raise SystemExit(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    comfyui, python = Path(os.environ["COMFYUI_PATH"]), os.environ.get("COMFYUI_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(comfyui, python, Path(folder) / "base")
        try:
            runs = Runs(server)
            for name in wanted or PICTURES:
                PICTURES[name](runs)
        finally:
            server.stop()


def run_tapped(server: Server, name: str) -> tuple[dict[str, Tensor], Outcome]:
    """Run a workflow with its clip and its edits saved besides, without loss."""
    prompt = json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))
    if name in ON_STABLE_DIFFUSION:
        prompt = on_bundled_model(prompt)
    clips = [key for key, entry in prompt.items() if entry["class_type"] == "TAVLoadVideo"]
    taps = {f"tap {clip}": (clip, [caption]) for clip, caption in zip(clips, (SOURCE, SECOND), strict=False)}
    deflickered = {e["inputs"]["images"][0]: key for key, e in prompt.items() if e["class_type"] == "TAVSteady"}
    for key, entry in list(prompt.items()):
        sampled = prompt[entry["inputs"]["samples"][0]] if entry["class_type"] == "VAEDecode" else None
        if sampled and sampled["class_type"] in SAMPLERS:
            text = text_of(prompt, sampled["inputs"]["positive"])
            captions = prompt[text[0]]["inputs"]["prompts"].splitlines() if isinstance(text, list) else [text]
            taps[f"tap {key}"] = (deflickered.get(key, key), captions)
    for tap, (key, _) in taps.items():
        prompt[tap] = node("TAVSaveVideo", images=[key, 0], fps=8.0, filename_prefix="tap", crf=0)
    outcome = server.run(prompt)
    sys.stdout.write(f"{name}: {seconds(outcome):.0f} s\n")
    sys.stdout.flush()
    found = {}
    for tap, (_, captions) in taps.items():
        files = outcome.files(tap)
        found |= {text: frames_of(server, file) for text, file in zip(captions, files, strict=True)}
    return found, outcome


def text_of(prompt: dict[str, Any], link: list[Any]) -> Any:
    """The text behind CONDITIONING, through ControlNets."""
    inputs = prompt[link[0]]["inputs"]
    return inputs["text"] if "text" in inputs else text_of(prompt, inputs[("positive", "negative")[link[1]]])


def on_bundled_model(prompt: dict[str, Any]) -> dict[str, Any]:
    """A workflow of Stable Diffusion with the bundled model and its settings in place of checkpoint and LoRA."""
    ways = read_schemas()["TAVSample"]["input"]["optional"]["way"][1]["ways"]
    (model,) = (key for key, entry in prompt.items() if entry["class_type"] == "CheckpointLoaderSimple")
    loras = {key for key, entry in prompt.items() if entry["class_type"] == "LoraLoader"}
    made = {key: entry for key, entry in prompt.items() if key not in loras} | {model: node("TAVLoadDemoModel")}
    tuning = dict(steps=BUNDLED.tuning.steps, learning_rate=BUNDLED.tuning.learning_rate)
    settings = {
        "TAVLoadVideo": dict(width=128, height=128, stride=1),
        "TAVOneShotTune": tuning,
        "TAVDDIMInvert": dict(steps=BUNDLED.inversion.num_inference_steps),
    }
    for entry in made.values():
        inputs = entry["inputs"]
        inputs |= settings.get(entry["class_type"], {})
        if entry["class_type"] == "TAVSample":
            inputs |= ways["bundled"][inputs["way"]]
        for name, value in inputs.items():
            if isinstance(value, list) and value[0] in loras:
                inputs[name] = [model, value[1]]
    return made


def seconds(outcome: Outcome) -> float:
    began, ended = outcome.message("execution_start"), outcome.message("execution_success")
    assert began and ended
    return (ended["timestamp"] - began["timestamp"]) / 1000


def frames_of(server: Server, file: dict[str, str]) -> Tensor:
    with av.open(io.BytesIO(server.view(file))) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(pictures)).float().div(255)


def as_image(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture * 255).round().to(torch.uint8).numpy())


def thumbnail(name: str, clips: list[tuple[str, Tensor]]) -> None:
    as_image(contact_sheet(dict(clips), num_frames=SHOWN_FRAMES)).save(EXAMPLES / f"{name}.jpg", quality=88)


def edit_of(name: str) -> Callable[[Runs], None]:
    return lambda runs: thumbnail(name, runs.clips(name))


def loss_curve(runs: Runs) -> None:
    outputs = runs.outcome("tune_and_save").history["outputs"]
    (shown,) = (
        output["images"][0] for key, output in outputs.items() if not key.startswith("tap") and "images" in output
    )
    picture = Image.open(io.BytesIO(runs.server.view(shown))).convert("RGB")
    picture.resize((672, 336), Image.Resampling.LANCZOS).save(EXAMPLES / "tune_and_save.jpg", quality=88)


def load_and_edit(runs: Runs) -> None:
    runs.outcome("tune_and_save")  # makes the file
    thumbnail("load_and_edit", runs.clips("load_and_edit"))


def stand_in(name: str, run: str | None = None) -> Callable[[Runs], None]:
    """For a workflow whose weights are not here: its run, or one of another, by the bundled model, and it says so."""

    def draw(runs: Runs) -> None:
        (caption, clip), *edits = runs.clips(run or name)
        thumbnail(name, [(f"With the bundled model: {caption}", clip), *edits])

    return draw


def emblems(runs: Runs) -> None:
    clips = [clip for _, clip in runs.clips(SEVERAL)]
    icon(clips).save(DOCS / "icon.png", optimize=True)
    banner(clips).save(DOCS / "banner.png", optimize=True)


def icon(clips: list[Tensor]) -> Image.Image:
    """A clip and three edits, each at a later moment, 400 x 400."""
    moments = [frames[index * (len(frames) - 1) // 4] for index, frames in enumerate(clips[:4])]
    rows = [torch.cat(moments[start : start + 2], dim=1) for start in (0, 2)]
    return as_image(torch.cat(rows)).resize((400, 400), Image.Resampling.LANCZOS)


def banner(clips: list[Tensor]) -> Image.Image:
    """Clips in three rows of seven moments, 1260 x 540 (21:9)."""
    rows = []
    for frames in clips[:3]:
        moments = torch.linspace(0, len(frames) - 1, 7).round().long()
        rows.append(torch.cat(list(frames[moments]), dim=1))
    return as_image(torch.cat(rows)).resize((1260, 540), Image.Resampling.LANCZOS)


PICTURES: dict[str, Callable[[Runs], None]] = {
    QUICKSTART: edit_of(QUICKSTART),
    SEVERAL: edit_of(SEVERAL),
    CLIPS: edit_of(CLIPS),
    "source_branch": edit_of("source_branch"),
    "tune_and_save": loss_curve,
    "load_and_edit": load_and_edit,
    "native_ksampler": edit_of("native_ksampler"),
    "native_long_clip": edit_of("native_long_clip"),
    **{name: edit_of(name) for name in ("control_canny", "control_depth", "control_pose", "native_control_pose")},
    "word_heat_maps": edit_of("word_heat_maps"),
    **{name: stand_in(name, "native_ksampler") for name in ("native_style_sd15", "native_few_steps_sd15")},
    **{name: stand_in(name) for name in ON_STABLE_DIFFUSION},
    "emblems": emblems,
}


if __name__ == "__main__":
    main(sys.argv[1:])
