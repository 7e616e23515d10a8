"""The workflows for Stable Diffusion 1.5 on a full-size checkpoint with made-up weights, at small settings.

Runs if TAV_FULL_SIZE=1 is set: it writes 2.1 GB and takes 8 GB of memory and some minutes.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tests.comfyui.client import Server
from tests.comfyui.test_nodes import EXAMPLES
from tools.workflows.formats import SD15

MAKER = Path(__file__).parents[2] / "tools" / "make_checkpoint.py"
SMALL = dict(num_frames=2, width=128, height=128, steps=2)
pytestmark = pytest.mark.skipif(
    os.environ.get("TAV_FULL_SIZE") != "1", reason="set TAV_FULL_SIZE=1 to run the workflows of Stable Diffusion"
)


@pytest.fixture(scope="module")
def files(comfyui: tuple[Path, str], server: Server) -> Iterator[None]:
    """The checkpoint and the LoRA that the workflows name."""
    folder, python = comfyui
    models = server.base / "models"
    made = models / "checkpoints" / SD15["name"], models / "loras" / "your-lora.safetensors"
    for file in made:
        file.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "COMFYUI_PATH": str(folder)}
    subprocess.run([python, str(MAKER), *map(str, made)], env=environment, check=True)
    yield
    server.free()
    for file in made:
        file.unlink()


@pytest.mark.parametrize("name", ["edit_sd15", "edit_sd15_lora", "native_style_sd15"])
def test_workflows_of_stable_diffusion_run(files: None, server: Server, name: str) -> None:
    prompt = json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for entry in prompt.values():
        entry["inputs"] |= {key: value for key, value in SMALL.items() if key in entry["inputs"]}
        if entry["class_type"] == "TAVInflateUNet":
            entry["inputs"]["precision"] = "bfloat16"  # or it takes 3.4 GB more
    outcome = server.run(prompt)
    (save,) = (key for key, entry in prompt.items() if entry["class_type"] == "TAVSaveVideo")
    (file,) = outcome.files(save)
    (server.base / "output" / "view.mp4").write_bytes(server.view(file))
    with av.open(server.base / "output" / "view.mp4") as container:
        (first, *others) = container.decode(video=0)
    assert (len(others), first.width, first.height) == (1, 128, 128)
