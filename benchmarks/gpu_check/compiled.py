"""A step with torch.compile and without: seconds, those of compiling, and how far the predictions differ."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils._triton import has_triton

from benchmarks import harness
from benchmarks.gpu_check.precision import relative
from benchmarks.gpu_check.setting import Setting
from benchmarks.results import table
from benchmarks.speed import unet
from benchmarks.speed.unet import TIMESTEP, Case
from tav_core import TuningConfig, VideoUNet, inflate

FRAMES, LATENT, ROUNDS = 8, 32, 5
LONGEST = 60.0  # seconds of compiling a sampling step beyond which tuning, which takes thrice that, is left out


def unavailable(setting: Setting) -> str:
    if setting.cuda and not has_triton():
        return "This torch has no Triton, which torch.compile needs on a GPU: install triton."
    return ""


def backend(setting: Setting) -> str:
    """Without code of its own where the setting is small: compiling takes minutes on a CPU, and a C++ compiler."""
    return "eager" if setting.small else "inductor"


def measure(setting: Setting) -> dict[str, Any]:
    """A row for sampling and one for tuning."""
    case, rounds = setting.case(FRAMES, LATENT), 1 if setting.small else ROUNDS
    eager = inflate(case.unet())
    expected = predicted(eager, case)
    difference = relative(predicted(torch.compile(eager, backend=backend(setting)), case), expected)
    torch._dynamo.reset()
    rows = [row(case, harness.SAMPLING, setting, rounds)]
    if rows[0]["compile_seconds"] > LONGEST:
        rows.append({"step": harness.TUNING, "left_out": f"compiling a sampling step took more than {LONGEST:.0f} s"})
    else:
        rows.append(row(case, harness.TUNING, setting, rounds))
    return {"case": str(case), "backend": backend(setting), "difference": difference, "rows": rows}


def predicted(video_unet: Any, case: Case) -> torch.Tensor:
    latents, text = case.inputs(video_unet.unet)
    with torch.no_grad():
        return video_unet(latents, TIMESTEP, text).float()


def row(case: Case, kind: str, setting: Setting, rounds: int) -> dict[str, Any]:
    """Seconds of a step by each, and of the first compiled one."""
    compiled: Any = torch.compile(inflate(case.unet()), backend=backend(setting))
    steps = {"eager": step_of(case, kind, inflate(case.unet())), "compiled": step_of(case, kind, compiled)}
    began = time.perf_counter()
    steps["compiled"]()
    harness.finish(case.device)
    first = time.perf_counter() - began
    seconds = harness.interleaved(steps, rounds, case.device)
    torch._dynamo.reset()
    return {"step": kind, "compile_seconds": first, **{f"{name}_seconds": spent for name, spent in seconds.items()}}


def step_of(case: Case, kind: str, video_unet: VideoUNet) -> unet.Run:
    config = harness.KINDS[kind]
    if isinstance(config, TuningConfig):
        return unet.video_tuning_step(case, config, video_unet)
    return unet.video_sampling_step(case, video_unet)


def shown(result: dict[str, Any]) -> str:
    head = ["case", f"step, {result['backend']}", "first, s", "compiled, s", "eager, s", "ratio"]
    return table(head, [[result["case"], row["step"], *_cells(row)] for row in result["rows"]])


def _cells(row: dict[str, Any]) -> list[str]:
    if "left_out" in row:
        return [row["left_out"], "", "", ""]
    compiled, eager = row["compiled_seconds"], row["eager_seconds"]
    return [f"{row['compile_seconds']:.1f}", f"{compiled:.3f}", f"{eager:.3f}", f"{compiled / eager:.2f}"]
