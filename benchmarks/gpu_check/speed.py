"""Seconds of a step beside the image UNet's on the same frames, and its utilisation.

Utilisation is the arithmetic of the step, without what checkpointing repeats, in floating-point operations a second,
over those of a large matrix product in the same type and process.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import torch

from benchmarks import harness
from benchmarks.gpu_check.setting import Setting
from benchmarks.results import table
from benchmarks.speed import step
from benchmarks.speed.cards import product_rate
from benchmarks.speed.unet import Case, drawn_weights
from tav_core import TuningConfig
from tav_core.memory.budget import ran_out_of_memory

FRAMES, LATENT, ROUNDS = 8, 64, 3
SMALL_KINDS = (harness.SAMPLING, harness.TUNING)


def unavailable(setting: Setting) -> str:
    return ""


def measure(setting: Setting) -> dict[str, Any]:
    """A row for each kind of step, in seconds and floating-point operations a second."""
    case, rounds = setting.case(FRAMES, LATENT), 1 if setting.small else ROUNDS
    product = product_rate(case)
    kinds = SMALL_KINDS if setting.small else tuple(harness.KINDS)
    rows = [row(case, kind, rounds, product) for kind in kinds]
    drawn_weights.cache_clear()
    return {"case": str(case), "product_flops_a_second": product, "rows": rows}


def row(case: Case, kind: str, rounds: int, product: float) -> dict[str, Any]:
    """One kind of step; `fits` is false where the device ran out of memory."""
    config = harness.KINDS[kind]
    once = replace(config, gradient_checkpointing=False) if isinstance(config, TuningConfig) else config
    flops = case.estimate(once).flops
    gc.collect()
    if harness.is_cuda(case.device):
        torch.cuda.empty_cache()
    try:
        seconds = harness.interleaved(step.builders(case, config), rounds, case.device)
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        return {"step": kind, "fits": False, "flops": flops}
    rate = flops / seconds["video"]
    times = {"seconds": seconds["video"], "image_seconds": seconds["image"]}
    return {"step": kind, "fits": True, "flops": flops, **times, "flops_a_second": rate, "utilisation": rate / product}


def shown(result: dict[str, Any]) -> str:
    head = ["case", "step", "image UNet, s", "video UNet, s", "ratio", "TFLOP/s", "of a product's"]
    return table(head, [[result["case"], row["step"], *_cells(row)] for row in result["rows"]])


def _cells(row: dict[str, Any]) -> list[str]:
    if not row["fits"]:
        return ["", "out of memory", "", "", ""]
    seconds, image = row["seconds"], row["image_seconds"]
    rate = f"{row['flops_a_second'] / 1e12:.2f}"
    return [f"{image:.3f}", f"{seconds:.3f}", f"{seconds / image:.2f}", rate, f"{row['utilisation']:.0%}"]
