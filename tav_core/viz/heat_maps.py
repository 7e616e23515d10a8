"""Heat maps over frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from torch import Tensor

from ..checks import check_range, check_tensor
from .figures import side_by_side

COLOURS = "inferno"  # of matplotlib: dark where there is no heat, bright where there is most
OPACITY = 0.8  # where there is most heat
GREY = (0.299, 0.587, 0.114)


def heat_map_grid(frames: Tensor, maps: Sequence[tuple[str, Tensor]]) -> Tensor:
    """The maps of words side by side, each over the frames and under its word: (f, h, w, 3) in [0, 1].

    Arguments:
        frames: (f, h, w, 3) in [0, 1].
        maps: each word with its map, (f, y, x) in [0, 1].
    """
    panels: dict[str, Tensor] = {}
    for word, heat in maps:
        again = sum(name.split(" ")[0] == word for name in panels)
        panels[f"{word} ({again + 1})" if again else word] = heat_overlay(frames, heat)
    return side_by_side(panels, columns=min(4, len(panels)), enlarge=max(1, 256 // frames.shape[2]))


def heat_overlay(frames: Tensor, heat: Tensor) -> Tensor:
    """Heat in colours over the frames in grey.

    Arguments:
        frames: (f, h, w, 3) in [0, 1].
        heat: (f, y, x) in [0, 1], of any size; it is enlarged to the frames.

    Returns:
        (f, h, w, 3) in [0, 1], on the CPU.

    Raises:
        TypeError, ValueError: if they are no such tensors, or differ in their number of frames.
    """
    check_tensor("frames", frames)
    check_tensor("heat", heat)
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"Expected frames of shape (f, h, w, 3), got {tuple(frames.shape)}.")
    if heat.ndim != 3 or len(heat) != len(frames):
        raise ValueError(f"Heat is (frames, height, width) for {len(frames)} frames, got {tuple(heat.shape)}.")
    check_range("heat", heat, 0, 1)
    enlarged = F.interpolate(heat[:, None].float().cpu(), frames.shape[1:3], mode="bilinear", align_corners=False)
    large = enlarged[:, 0].clamp(0, 1)
    colours = torch.from_numpy(np.float32(colormaps[COLOURS](large.numpy())[..., :3]))
    grey = (frames.float().cpu() @ torch.tensor(GREY))[..., None].expand(-1, -1, -1, 3)
    return torch.lerp(grey, colours, OPACITY * (0.25 + 0.75 * large[..., None]))
