"""Draw the pictures of the package anew, from what the bundled model does in a real ComfyUI, at full settings.

    COMFYUI_PATH=... COMFYUI_PYTHON=... python -m tests.comfyui.make_pictures

Writes example_workflows/NAME.jpg, docs/quickstart.png (the page after a run; needs Chromium), docs/icon.png and
docs/banner.png, and says how long each workflow took. The tuning is made once: the host keeps it from one to the next.
"""

import io
import json
import os
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tav_core.show import contact_sheet
from tests.comfyui import browser
from tests.comfyui.client import ROOT, Outcome, Server
from tests.comfyui.prompts import node

EXAMPLES, DOCS = ROOT / "example_workflows", ROOT / "docs"
QUICKSTART = "quickstart_bundled_model"
LEFT, TOP = 56, 86  # pixels of the page's own bars
SHOWN_FRAMES = 4


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            Path(os.environ["COMFYUI_PATH"]), os.environ.get("COMFYUI_PYTHON", sys.executable), Path(folder)
        )
        try:
            draw(server)
        finally:
            server.stop()


def draw(server: Server) -> None:
    screenshot(server, DOCS / "quickstart.png")
    several, _ = clips_of(server, "several_prompts")
    source, *edits = several.items()
    thumbnail(QUICKSTART, [source, edits[0]])
    thumbnail("several_prompts", [source, *edits])
    _, outcome = clips_of(server, "tune_and_save")
    loss_curve(server, outcome, EXAMPLES / "tune_and_save.jpg")
    thumbnail("load_and_edit", list(clips_of(server, "load_and_edit")[0].items()))
    for name, edit in (("edit_sd15", edits[1]), ("edit_sd15_lora", edits[2])):
        thumbnail(name, [(f"With the bundled model: {source[0]}", source[1]), edit])
    frames = [clip for _, clip in (source, *edits)]
    icon(frames[0], frames[1]).save(DOCS / "icon.png", optimize=True)
    banner(frames).save(DOCS / "banner.png", optimize=True)


def clips_of(server: Server, name: str) -> tuple[dict[str, Tensor], Outcome]:
    """Run a workflow; its clip and its edits by their captions, each (f, h, w, 3) in [0, 1]."""
    prompt = json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))
    (clip,) = (key for key, entry in prompt.items() if entry["class_type"] == "TAVLoadVideo")
    tapped = {"a pink star on a navy background": clip}
    for key, entry in prompt.items():
        if entry["class_type"] == "VAEDecode":
            sampled = prompt[entry["inputs"]["samples"][0]]
            tapped[prompt[sampled["inputs"]["positive"][0]]["inputs"]["text"]] = key
    for key in tapped.values():
        prompt[f"tap {key}"] = node("TAVSaveVideo", images=[key, 0], fps=8.0, filename_prefix="tap", crf=0)
    outcome = server.run(prompt)
    sys.stdout.write(f"{name}: {seconds(outcome):.0f} s, {len(outcome.cached)} nodes from the cache\n")
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


def loss_curve(server: Server, outcome: Outcome, path: Path) -> None:
    (shown,) = (output["images"][0] for key, output in outcome.history["outputs"].items() if not key.startswith("tap"))
    Image.open(io.BytesIO(server.view(shown))).convert("RGB").resize((672, 336), Image.Resampling.LANCZOS).save(
        path, quality=88
    )


def icon(source: Tensor, edit: Tensor) -> Image.Image:
    """The object along its path, 400 x 400: first as it was, then as the edit has it. (Objects outshine grounds.)"""
    last = len(source) - 1
    moments = [source[0], source[last // 3], edit[last * 2 // 3], edit[last]]
    return as_image(torch.stack(moments).amax(0)).resize((400, 400), Image.Resampling.LANCZOS)


def banner(clips: list[Tensor]) -> Image.Image:
    """Clips in three rows of seven moments, 1260 x 540 (21:9)."""
    rows = []
    for frames in clips[:3]:
        moments = torch.linspace(0, len(frames) - 1, 7).round().long()
        rows.append(torch.cat(list(frames[moments]), dim=1))
    return as_image(torch.cat(rows)).resize((1260, 540), Image.Resampling.LANCZOS)


def screenshot(server: Server, path: Path) -> None:
    """Run the quickstart in the page and keep a picture of its nodes."""
    if browser.CHROMIUM is None:
        sys.stdout.write("no Chromium: the screenshot stays as it is\n")
        return
    with browser.opened(server, 1900, 1300) as page:
        browser.load(page, json.loads((EXAMPLES / f"{QUICKSTART}.json").read_text(encoding="utf-8")))
        outcome = server.wait(browser.run(page))
        assert outcome.succeeded, outcome.history["status"]
        sys.stdout.write(f"{QUICKSTART}: {seconds(outcome):.0f} s\n")
        page.wait_for_timeout(4000)  # until the page has loaded the video
        right, bottom = browser.show_all(page, LEFT, TOP)
        page.wait_for_timeout(3000)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.crop((LEFT, TOP, right, bottom)).quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
