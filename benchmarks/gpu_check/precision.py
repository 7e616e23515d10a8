"""One prediction in each type on the device against float32 on the CPU: the error after each block of the UNet.

Weights and inputs are the same numbers; what tuning trains is moved from its start, so that the temporal attention
acts. The error is the root mean square of the difference over that of the CPU's output.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_check.setting import Setting, kind
from benchmarks.results import table
from benchmarks.speed.unet import TIMESTEP, Case, drawn_weights, shape
from tav_core import VideoUNet, inflate, trainable_parameters

TYPES = (torch.float32, torch.float16, torch.bfloat16)
FRAMES, LATENT = 4, 32
MOVED = 0.2  # of a trained weight's usual size


def unavailable(setting: Setting) -> str:
    return ""


def measure(setting: Setting) -> dict[str, Any]:
    """The errors of each type by block, in the order in which blocks run."""
    case = replace(setting.case(FRAMES, LATENT), dtype=torch.float32, device="cpu")
    first = model(case, "cpu", torch.float32)
    move_trained(first)
    trained = {name: weight.detach().clone() for name, weight in trainable_parameters(first).items()}
    reference = by_depth(first, case)
    errors: dict[str, list[float]] = {}
    for dtype in TYPES:
        video_unet = model(case, setting.device, dtype)
        with torch.no_grad():
            for name, weight in trainable_parameters(video_unet).items():
                weight.copy_(trained[name])  # those that inflation adds are drawn anew each time
        found = by_depth(video_unet, case)
        errors[kind(dtype)] = [relative(found[name], expected) for name, expected in reference.items()]
    return {"frames": case.frames, "latent": case.latent, "blocks": list(reference), "errors": errors}


def model(case: Case, device: str, dtype: torch.dtype) -> VideoUNet:
    """The inflated UNet of a case, whose weights are drawn on the CPU, on a device in a type."""
    unet = shape(case.tiny)
    weights = {name: weight.to(device, dtype) for name, weight in drawn_weights(case.tiny, case.dtype, "cpu").items()}
    unet.load_state_dict(weights, assign=True)
    return inflate(unet.eval())


def by_depth(video_unet: VideoUNet, case: Case) -> dict[str, Tensor]:
    """The output of each block, and the prediction, in float32 on the CPU."""
    latents, text = (tensor.to(video_unet.device) for tensor in case.inputs(video_unet.unet))
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            found[name] = hidden.detach().float().cpu()

        return hook

    for name, module in blocks(video_unet):
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        found["prediction"] = video_unet(latents, TIMESTEP, text).float().cpu()
    return found


def blocks(video_unet: VideoUNet) -> list[tuple[str, torch.nn.Module]]:
    """The parts of the UNet that follow each other, by name."""
    unet = video_unet.unet
    down = [(f"down {level}", block) for level, block in enumerate(unet.down_blocks)]
    up = [(f"up {level}", block) for level, block in enumerate(unet.up_blocks)]
    return [("input", unet.conv_in), *down, ("middle", unet.mid_block), *up]


def move_trained(video_unet: VideoUNet) -> None:
    """Add drawn numbers to each trained weight."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in trainable_parameters(video_unet).values():
            scale = MOVED * weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.02
            weight.add_(scale * torch.randn(weight.shape, generator=generator))


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def shown(result: dict[str, Any]) -> str:
    rows = [
        [name, *(f"{errors[depth]:.1e}" for errors in result["errors"].values())]
        for depth, name in enumerate(result["blocks"])
    ]
    head = [f"error after, {result['frames']} frames of {result['latent']}x{result['latent']}", *result["errors"]]
    return table(head, rows)
