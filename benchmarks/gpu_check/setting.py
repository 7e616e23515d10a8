"""On what device a check runs, and whether on small models, as where there is no GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import harness
from benchmarks.speed.unet import Case

GIB = 2**30


@dataclass(frozen=True)
class Setting:
    """Attributes: device, as torch names it; small, for a UNet of a hundredth of the weights and few small frames."""

    device: str
    small: bool

    @property
    def cuda(self) -> bool:
        return harness.is_cuda(self.device)

    @property
    def half(self) -> torch.dtype:
        """What weights rest in: float16 on a GPU; float32 on a CPU, where half precision is slow and not used."""
        return torch.float16 if self.cuda else torch.float32

    def case(self, frames: int, latent: int, dtype: torch.dtype | None = None) -> Case:
        """A size to measure at; 2 frames of 16 x 16 latents of the small UNet where the setting is small."""
        frames, latent = (2, 16) if self.small else (frames, latent)
        return Case(frames, latent, dtype or self.half, self.device, tiny=self.small)

    def machine(self) -> dict[str, Any]:
        """What is measured on: results of another machine are not mixed with its."""
        about: dict[str, Any] = {"line": harness.machine(self.device), "torch": torch.__version__, "small": self.small}
        if self.cuda:
            properties = torch.cuda.get_device_properties(self.device)
            about |= {"memory_bytes": properties.total_memory, "capability": [properties.major, properties.minor]}
            about |= {"cuda": torch.version.cuda}
        return about


def kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def gib(size: float) -> str:
    return f"{size / GIB:.2f}"
