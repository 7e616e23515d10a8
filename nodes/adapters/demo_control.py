"""The bundled ControlNets as the host's own CONTROL_NET, so that its stock nodes apply them.

Their hint encoder is narrower than the host's class allows: the host's control object holds the diffusers module.
"""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import comfy.model_management as host
import torch
from torch import Tensor, nn

from ... import tav_core


class DemoControl(nn.Module):
    """A diffusers ControlNet that is called as the host calls its own."""

    dtype = torch.float32

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor, **extra: Any) -> dict[str, list]:
        """What it adds, in the host's order.

        Arguments:
            x: (b, c, h, w) latents.
            hint: (b, 3, 8 h, 8 w) in [0, 1].
            timesteps: (b,).
            context: (b, n, d).
            extra: what the host has for other families.
        """
        down, middle = self.network(x, timesteps, context, hint, return_dict=False)
        return {"output": list(down), "middle": [middle]}


def load_demo_control(kind: str) -> comfy.controlnet.ControlNet:
    """The bundled ControlNet for "depth" or "pose".

    Raises:
        ModelError: the core's own, if it is missing.
    """
    with torch.inference_mode(False), torch.no_grad():
        network = DemoControl(tav_core.load_control(f"demo-{kind}"))
    return comfy.controlnet.ControlNet(network, load_device=host.get_torch_device())
