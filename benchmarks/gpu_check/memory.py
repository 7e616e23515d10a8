"""Peaks of a step against what the memory plan says of it, above the weights; on a GPU those of torch's tensors."""

from __future__ import annotations

import gc
from typing import Any

import torch

from benchmarks import harness
from benchmarks.gpu_check.setting import Setting, gib
from benchmarks.harness import Config
from benchmarks.results import table
from benchmarks.speed import unet
from benchmarks.speed.unet import Case
from tav_core.memory.budget import ran_out_of_memory
from tav_core.memory.estimate import OVERHEAD

FRAMES, LATENT = (8, 24), 64
SMALL_KINDS = (harness.SAMPLING, harness.TUNING)


def unavailable(setting: Setting) -> str:
    return ""


def measure(setting: Setting) -> dict[str, Any]:
    """A row for each kind of step and number of frames, in bytes."""
    kinds = SMALL_KINDS if setting.small else tuple(harness.KINDS)
    cases = [setting.case(frames, LATENT) for frames in (FRAMES[:1] if setting.small else FRAMES)]
    return {"overhead": OVERHEAD, "rows": [row(case, kind) for case in cases for kind in kinds]}


def row(case: Case, kind: str) -> dict[str, Any]:
    """What was planned and what was measured; `fits` is false where the device ran out of memory."""
    config = harness.KINDS[kind]
    planned = case.estimate(config)
    about = {"case": str(case), "frames": case.frames, "step": kind, "planned_peak": planned.peak}
    about["planned_above"] = planned.moments + planned.activations
    try:
        held, peak = peak_of(case, config)
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        return about | {"fits": False}
    above = peak - held
    within = above <= OVERHEAD * about["planned_above"]
    return about | {"fits": True, "held": held, "peak": peak, "above": above, "within_the_budget": within}


def peak_of(case: Case, config: Config) -> tuple[float, float]:
    """Bytes held before a step, and at the peak. On a CPU, where the process counts, in a process of its own."""
    if not harness.is_cuda(case.device):
        return unet.peak_memory(unet.video_step, case, config)
    gc.collect()
    torch.cuda.empty_cache()
    return unet.peak_here(unet.video_step, case, config)


def shown(result: dict[str, Any]) -> str:
    head = ["case", "step", "planned above the weights, GiB", "measured", "error", f"within {result['overhead']} x"]
    return table(head, [[row["case"], row["step"], *_cells(row)] for row in result["rows"]])


def _cells(row: dict[str, Any]) -> list[str]:
    if not row["fits"]:
        return [gib(row["planned_above"]), "out of memory", "", ""]
    error = row["planned_above"] / row["above"] - 1 if row["above"] else 0.0
    return [gib(row["planned_above"]), gib(row["above"]), f"{error:+.1%}", "yes" if row["within_the_budget"] else "no"]
