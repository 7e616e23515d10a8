"""A ComfyUI for the tests of the nodes. It runs in a process and a Python of its own: pytest never imports it.

COMFYUI_PATH      its folder; without it these tests skip
COMFYUI_PYTHON    its Python; that of pytest if not set
COMFYUI_DEVICE    "second" to run all of them on the device of host_device.py, which stands in for a GPU
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.comfyui.client import ROOT, SECOND_DEVICE, Server

WITHOUT = "set COMFYUI_PATH to a ComfyUI folder (and COMFYUI_PYTHON to its Python) to run the nodes in it"


@pytest.fixture(scope="session")
def comfyui() -> tuple[Path, str]:
    """Folder and Python of the ComfyUI under test."""
    if "COMFYUI_PATH" not in os.environ:
        pytest.skip(WITHOUT)
    return Path(os.environ["COMFYUI_PATH"]), os.environ.get("COMFYUI_PYTHON", sys.executable)


@pytest.fixture(scope="session")
def server(comfyui: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests, in a folder with a space and a letter beyond ASCII."""
    if not (ROOT / "tav_core" / "assets" / "demo-model").is_dir():
        pytest.skip("the bundled model is not in tav_core/assets")
    nodes = SECOND_DEVICE if os.environ.get("COMFYUI_DEVICE") == "second" else {}
    running = Server(*comfyui, tmp_path_factory.mktemp("comfy") / "bäse folder", nodes)
    yield running
    running.stop()
