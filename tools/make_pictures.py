"""Draw the pictures of the package anew, from what the bundled model does in a real ComfyUI, at full settings.

    COMFYUI_PATH=... COMFYUI_PYTHON=... python -m tools.make_pictures [NAME ...]

NAME is that of a workflow, whose thumbnail is drawn from its own run; or screenshot (docs/quickstart.png, the page
after a run; needs Chromium); or emblems (docs/icon.png and docs/banner.png). All are drawn if none is given. It says
how long each workflow took. The tuning runs once: the store of the pack holds it for the others.

Those of Stable Diffusion have no weights to run on here: their thumbnails show the bundled model, and say so.
"""

import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tav_core.viz.figures import contact_sheet
from tests.comfyui import browser
from tests.comfyui.client import ROOT, Outcome, Server
from tests.comfyui.prompts import SOURCE, node

EXAMPLES, DOCS = ROOT / "example_workflows", ROOT / "docs"
QUICKSTART, SEVERAL = "quickstart_bundled_model", "several_prompts"
LEFT, TOP = 56, 86  # pixels of the page's own bars
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
    (clip,) = (key for key, entry in prompt.items() if entry["class_type"] == "TAVLoadVideo")
    tapped = {SOURCE: clip}
    deflickered = {e["inputs"]["images"][0]: key for key, e in prompt.items() if e["class_type"] == "TAVSteady"}
    for key, entry in prompt.items():
        sampled = prompt[entry["inputs"]["samples"][0]] if entry["class_type"] == "VAEDecode" else None
        if sampled and sampled["class_type"] in SAMPLERS:
            tapped[prompt[sampled["inputs"]["positive"][0]]["inputs"]["text"]] = deflickered.get(key, key)
    for key in tapped.values():
        prompt[f"tap {key}"] = node("TAVSaveVideo", images=[key, 0], fps=8.0, filename_prefix="tap", crf=0)
    outcome = server.run(prompt)
    sys.stdout.write(f"{name}: {seconds(outcome):.0f} s\n")
    sys.stdout.flush()
    return {caption: frames_of(server, outcome, f"tap {key}") for caption, key in tapped.items()}, outcome


def seconds(outcome: Outcome) -> float:
    began, ended = outcome.message("execution_start"), outcome.message("execution_success")
    assert began and ended
    return (ended["timestamp"] - began["timestamp"]) / 1000


def frames_of(server: Server, outcome: Outcome, save: str) -> Tensor:
    with av.open(io.BytesIO(server.view(outcome.files(save)[0]))) as container:
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


def stand_in(name: str, edit: int, run: str = SEVERAL) -> Callable[[Runs], None]:
    """For a workflow whose weights are not here: an edit that the bundled model makes, and says so."""

    def draw(runs: Runs) -> None:
        (caption, clip), *edits = runs.clips(run)
        thumbnail(name, [(f"With the bundled model: {caption}", clip), edits[edit]])

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


def screenshot(runs: Runs) -> None:
    """Run the quickstart in the page and save a picture of its nodes."""
    server = runs.server
    if browser.CHROMIUM is None:
        sys.stdout.write("no Chromium: the screenshot stays as it is\n")
        return
    with browser.opened(server, 1900, 1300) as page:
        browser.load(page, json.loads((EXAMPLES / f"{QUICKSTART}.json").read_text(encoding="utf-8")))
        outcome = server.wait(browser.run(page))
        assert outcome.succeeded, outcome.history["status"]
        page.wait_for_timeout(4000)  # until the page has loaded the video
        right, bottom = browser.show_all(page, LEFT, TOP)
        page.wait_for_timeout(3000)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.crop((LEFT, TOP, right, bottom)).quantize(128).save(DOCS / "quickstart.png", optimize=True)


PICTURES: dict[str, Callable[[Runs], None]] = {
    QUICKSTART: edit_of(QUICKSTART),
    SEVERAL: edit_of(SEVERAL),
    "source_branch": edit_of("source_branch"),
    "tune_and_save": loss_curve,
    "load_and_edit": load_and_edit,
    "edit_sd15": stand_in("edit_sd15", 1),
    "edit_sd15_lora": stand_in("edit_sd15_lora", 2),
    "native_ksampler": edit_of("native_ksampler"),
    "native_long_clip": edit_of("native_long_clip"),
    "native_style_sd15": stand_in("native_style_sd15", 0, "native_ksampler"),
    "emblems": emblems,
    "screenshot": screenshot,
}


if __name__ == "__main__":
    main(sys.argv[1:])
