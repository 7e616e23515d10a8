"""The native MODEL (Apply Motion) in ComfyUI under Dynamic VRAM, beside the same with its older loading.

COMFYUI_PATH names ComfyUI's folder and COMFYUI_PYTHON its Python, in which native_worker.py runs twice. On a CPU there
is no Dynamic VRAM: both runs load in the older way then, and only show that the check itself works.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load_file

from benchmarks.gpu_check.precision import relative
from benchmarks.gpu_check.setting import Setting, gib
from benchmarks.results import table

WORKER = Path(__file__).with_name("native_worker.py")
WAYS = ("older", "dynamic")
TAIL = 2000  # characters of a failed worker's standard error


def unavailable(setting: Setting) -> str:
    if "COMFYUI_PATH" not in os.environ:
        return "Set COMFYUI_PATH to a ComfyUI folder, and COMFYUI_PYTHON to its Python."
    return ""


def measure(setting: Setting) -> dict[str, Any]:
    """What each way of loading gives, and how far the two differ: of the image model and of the tuned one."""
    with TemporaryDirectory() as folder:
        runs = {way: worked(setting, way, Path(folder)) for way in WAYS}
        made = {way: load_file(Path(folder) / f"{way}.safetensors") for way in WAYS}
    older, dynamic = made["older"], made["dynamic"]
    differences = {name: relative(dynamic[name], older[name]) for name in ("image", "native")}
    return {
        "runs": runs,
        "is_dynamic": runs["dynamic"]["is_dynamic"],
        "differences": differences,
        "tuning_acts": relative(dynamic["native"], dynamic["image"]),
        "image_unchanged": {way: bool((each["again"] == each["image"]).all()) for way, each in made.items()},
    }


def worked(setting: Setting, way: str, folder: Path) -> dict[str, Any]:
    """One run in ComfyUI's Python.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    words = [way, str(folder / f"{way}.safetensors"), setting.device, *(["small"] if setting.small else [])]
    command = [os.environ.get("COMFYUI_PYTHON", sys.executable), str(WORKER), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ComfyUI ended with code {done.returncode}: {done.stderr.strip()[-TAIL:]}")
    return json.loads(done.stdout.splitlines()[-1])


def shown(result: dict[str, Any]) -> str:
    rows = []
    for way, run in result["runs"].items():
        name = "Dynamic VRAM" if run["is_dynamic"] else "older loading"
        unchanged = "yes" if result["image_unchanged"][way] else "no"
        peak = gib(run["peak"]) if run["peak"] else ""
        cells = [f"{run['image_seconds']:.2f}", f"{run['native_seconds']:.2f}", peak, unchanged]
        rows.append([name, run["version"], *cells])
    rows[1][0] += f", differs by {result['differences']['native']:.0e}"
    head = ["native MODEL", "ComfyUI", "image UNet, s", "native, s", "peak, GiB", "image model unchanged"]
    return table(head, rows)
