"""The host's memory management around our modules, in ComfyUI's own process. See host.py."""

import json
import os
import subprocess
from pathlib import Path

import pytest

HOST = Path(__file__).with_name("host.py")


@pytest.fixture(scope="module")
def results(comfyui: tuple[Path, str]) -> dict[str, dict]:
    folder, python = comfyui
    command, environment = [python, str(HOST), "whole", "dead"], {**os.environ, "COMFYUI_PATH": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line.pop("case"): line for line in lines}


def test_models_without_host_layers_load_whole(results: dict[str, dict]) -> None:
    assert set(map(tuple, results["whole"].values())) == {("meta",)}, results["whole"]


def test_memory_budget_skips_freed_models(results: dict[str, dict]) -> None:
    """The host lists a freed model until its memory is collected, and skips it too."""
    assert results["dead"]["dead"] == [False, True]
    assert results["dead"]["room"] == 1 + 6 * 4  # the six numbers of the other
