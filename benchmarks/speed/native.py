"""Time of a step of the native MODEL (Apply Motion) beside ComfyUI's own image UNet on the same frames, in one run.

    COMFYUI_PATH=... COMFYUI_PYTHON=... python -m benchmarks speed native

Full-size Stable Diffusion 1.5 with made-up weights, 8 frames of 32 x 32 latents, float32, one thread; median CPU
seconds of three calls by turns, in ComfyUI's Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import harness
from benchmarks.results import report, table

WORKER = Path(__file__).parents[2] / "tests" / "comfyui" / "native_host.py"


def run(options: list[str]) -> str:
    """Measure, and return the section's text.

    Raises:
        SystemExit: COMFYUI_PATH is not set.
    """
    harness.parser(__name__, __doc__).parse_args(options)
    if "COMFYUI_PATH" not in os.environ:
        raise SystemExit("Set COMFYUI_PATH to a ComfyUI folder, and COMFYUI_PYTHON to its Python.")
    command = [os.environ.get("COMFYUI_PYTHON", sys.executable), str(WORKER), "speed"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    spent = json.loads(done.stdout.splitlines()[-1])
    row = [f"{spent['image']:.2f}", f"{spent['native']:.2f}", f"{spent['ratio']:.3f}"]
    return report(harness.machine("cpu"), table(["image UNet, s", "native MODEL, s", "native / image"], [row]))
