"""Draw the pictures of the package anew, from what the bundled model does in a real ComfyUI, at full settings.

    COMFYUI_PATH=... COMFYUI_PYTHON=... python -m tools.make_pictures [NAME ...]

NAME is that of a workflow, whose thumbnail is drawn from its own run, or emblems (docs/icon.png and docs/banner.png).
All are drawn if none is given. It says how long each workflow took. The tuning runs once: the store of the pack holds
it for the others.

Those of Stable Diffusion have no weights to run on here: they run on the bundled model, with its settings, in place of
the checkpoint, and without their LoRA; their thumbnails say so.
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
WITH_LORA = ("edit_sd15_lora", "native_style_sd15", "native_few_steps_sd15")
ON_STABLE_DIFFUSION = ("edit_sd15", "edit_sd15_content", *WITH_LORA)
LORA_LOADERS = ("LoraLoader", "LoraLoaderModelOnly")
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
    loras = {key: entry["inputs"]["model"][0] for key, entry in prompt.items() if entry["class_type"] in LORA_LOADERS}
    made = {key: entry for key, entry in prompt.items() if key not in loras} | {model: node("TAVLoadDemoModel")}
    tuning = dict(steps=BUNDLED.tuning.steps, learning_rate=BUNDLED.tuning.learning_rate)
    settings = {
        "TAVLoadVideo": dict(width=128, height=128, stride=1),
        "TAVOneShotTune": tuning,
        "TAVDDIMInvert": dict(steps=BUNDLED.inversion.num_inference_steps),
        "BasicScheduler": dict(steps=BUNDLED.inversion.num_inference_steps),
    }
    for entry in made.values():
        inputs = entry["inputs"]
        inputs |= settings.get(entry["class_type"], {})
        if entry["class_type"] == "TAVSample":
            inputs |= ways["bundled"][inputs["way"]]
        if entry["class_type"] == "KSamplerAdvanced" and inputs["sampler_name"] != "lcm":
            inputs |= dict(steps=BUNDLED.sampling.num_inference_steps, cfg=BUNDLED.sampling.guidance_scale)
        for name, value in inputs.items():
            if isinstance(value, list) and value[0] in loras:
                inputs[name] = [loras[value[0]], value[1]]
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


def shown_pictures(runs: Runs, name: str) -> list[Image.Image]:
    """What Preview Image shows in a workflow."""
    prompt = json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))
    (shown,) = (key for key, entry in prompt.items() if entry["class_type"] == "PreviewImage")
    files = runs.outcome(name).files(shown)
    return [Image.open(io.BytesIO(runs.server.view(file))).convert("RGB") for file in files]


def loss_curve(runs: Runs) -> None:
    (picture,) = shown_pictures(runs, "tune_and_save")
    picture.resize((672, 336), Image.Resampling.LANCZOS).save(EXAMPLES / "tune_and_save.jpg", quality=88)


def heat_maps(runs: Runs) -> None:
    """The maps of one frame, above the edit within the mask."""
    pictures = shown_pictures(runs, "word_heat_maps")
    maps, edit = pictures[len(pictures) // 2], runs.clips("word_heat_maps")[1:]
    sheet = as_image(contact_sheet(dict(edit), num_frames=SHOWN_FRAMES))
    maps = maps.resize((sheet.width, maps.height * sheet.width // maps.width), Image.Resampling.LANCZOS)
    whole = Image.new("RGB", (sheet.width, maps.height + sheet.height))
    whole.paste(maps, (0, 0))
    whole.paste(sheet, (0, maps.height))
    whole.save(EXAMPLES / "word_heat_maps.jpg", quality=88)


def load_and_edit(runs: Runs) -> None:
    runs.outcome("tune_and_save")  # makes the file
    thumbnail("load_and_edit", runs.clips("load_and_edit"))


def stand_in(name: str) -> Callable[[Runs], None]:
    """For a workflow whose weights are not here: its run by the bundled model, and it says so."""
    without = ", no LoRA" if name in WITH_LORA else ""

    def draw(runs: Runs) -> None:
        (caption, clip), *edits = runs.clips(name)
        thumbnail(name, [(f"With the bundled model{without}: {caption}", clip), *edits])

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
    "word_heat_maps": heat_maps,
    **{name: stand_in(name) for name in ON_STABLE_DIFFUSION},
    "emblems": emblems,
}


if __name__ == "__main__":
    main(sys.argv[1:])
