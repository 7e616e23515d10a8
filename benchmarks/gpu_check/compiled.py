"""A step with torch.compile and without: seconds, those of compiling, and how far the predictions differ."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._triton import has_triton

from benchmarks import harness
from benchmarks.gpu_check.precision import relative
from benchmarks.gpu_check.setting import Setting
from benchmarks.results import table
from benchmarks.speed import unet
from benchmarks.speed.unet import TIMESTEP, Case
from tav_core import SamplingConfig, TuningConfig, inflate
from tav_core.editing.sampling import guided_denoiser

FRAMES, LATENT, ROUNDS = 8, 32, 5
LONGEST = 80.0  # seconds of compiling a sampling step beyond which tuning, which takes thrice that, is left out


def unavailable(setting: Setting) -> str:
    if setting.cuda and not has_triton():
        return "This torch has no Triton, which torch.compile needs on a GPU: install triton."
    return ""


def backend(setting: Setting) -> str:
    """Without code of its own where the setting is small: compiling takes minutes on a CPU, and a C++ compiler."""
    return "eager" if setting.small else "inductor"


def measure(setting: Setting) -> dict[str, Any]:
    """A row for sampling and one for tuning. Each kind is compiled once: that takes most of the time."""
    case, rounds = setting.case(FRAMES, LATENT), 1 if setting.small else ROUNDS
    video_unet = inflate(case.unet())
    compiled = torch.compile(video_unet, backend=backend(setting))
    rows = [row(case, harness.SAMPLING, {"compiled": compiled, "eager": video_unet}, rounds)]
    difference = relative(guided(compiled, case), guided(video_unet, case))
    torch._dynamo.reset()
    if rows[0]["compile_seconds"] > LONGEST and not setting.small:
        rows.append({"step": harness.TUNING, "left_out": f"compiling a sampling step took more than {LONGEST:.0f} s"})
    else:
        trained = {"compiled": torch.compile(inflate(case.unet()), backend=backend(setting)), "eager": video_unet}
        rows.append(row(case, harness.TUNING, trained, rounds))
    return {"case": str(case), "backend": backend(setting), "difference": difference, "rows": rows}


def guided(video_unet: Any, case: Case) -> torch.Tensor:
    """The prediction of a sampling step."""
    latents, text = case.inputs(video_unet.unet)
    denoiser = guided_denoiser(video_unet, text, -text, unet.SCHEDULER, SamplingConfig())
    with torch.no_grad():
        return denoiser(latents, TIMESTEP).float()


def row(case: Case, kind: str, models: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Seconds of a step by each model, and of the first compiled one."""
    steps = {name: step_of(case, kind, video_unet) for name, video_unet in models.items()}
    first = harness.seconds_of(steps["compiled"], case.device)
    seconds = harness.interleaved(steps, rounds, case.device)
    return {"step": kind, "compile_seconds": first, **{f"{name}_seconds": spent for name, spent in seconds.items()}}


def step_of(case: Case, kind: str, video_unet: Any) -> unet.Run:
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
