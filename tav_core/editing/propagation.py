"""What an edit changes, carried along the motion of the clip: each frame takes it from all frames near it.

Frames that are edited each for itself decide each for itself: one gets a ring, the next one a disc. The means of what
all of them came to, fetched along the clip's motion, decides once (the idea of TokenFlow, arXiv:2307.10373, which
shares features of the network, and of Rerender A Video, arXiv:2306.07954). The motion is read from the latents
themselves, whose first principal component is a small picture of the clip: no frames are asked for.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..video.optical_flow import follow

PICTURE_SIDE = 128  # pixels; a latent picture is enlarged by a whole number until its shorter side is no less
RETURNS = 0.5  # latent pixels; a point that comes back farther off has been lost on the way


class FlowPropagation:
    """The motion of a clip, and what is carried along it.

    Arguments:
        latents: the clean clip, (b, c, f, h, w), any floating type and device.
    """

    def __init__(self, latents: Tensor):
        self.paths = [list(_paths(clip)) for clip in latents.detach().float().cpu()]

    def propagate(self, offset: Tensor) -> Tensor:
        """Replace what was changed in each frame with the mean of all near it.

        Arguments:
            offset: (b, c, f, h, w), floating, any device.

        Returns:
            The same shape, type and device.
        """
        shared = [
            torch.stack([_mean(changes[:, near], grids, seen) for near, grids, seen in paths], dim=1)
            for changes, paths in zip(offset, self.paths, strict=True)
        ]
        return torch.stack(shared)


def _mean(changes: Tensor, grids: Tensor, seen: Tensor) -> Tensor:
    """(c, n, h, w) of n frames, fetched to where they belong in one: (c, h, w)."""
    frames, seen = changes.transpose(0, 1), seen.to(changes)[:, None]
    height, width = frames.shape[-2:]
    inner = 1 - 1 / torch.tensor([width, height])  # to the middle of the outermost points: no device need know borders
    grids = torch.minimum(torch.maximum(grids, -inner), inner)
    fetched = F.grid_sample(frames, grids.to(changes), align_corners=False)
    return (seen * fetched).sum(0) / seen.sum(0)


def _paths(clip: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """For each frame of (c, f, h, w): which frames are near, where its points lie in them, and which share is seen.

    Points are (n, h, w, 2) as `grid_sample` takes them, shares (n, h, w).
    """
    height, width = clip.shape[-2:]
    pictures = latent_pictures(clip)
    scale = pictures.shape[1] // height
    size = np.array([width, height], np.float32) * scale
    for near in follow(pictures, RETURNS * scale):
        points = np.stack([_shrink(other.points, width, height) for other in near])
        seen = np.stack([_shrink(other.seen.astype(np.float32), width, height) for other in near])
        grids = 2 * (points + 0.5) / size - 1
        yield slice(near[0].index, near[-1].index + 1), torch.from_numpy(grids), torch.from_numpy(seen)


def _shrink(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def latent_pictures(clip: Tensor) -> np.ndarray:
    """The first principal component of latents (c, f, h, w) as grey pictures: (f, H, W), uint8, enlarged."""
    flat = clip.flatten(1) - clip.flatten(1).mean(1, keepdim=True)
    _, axes = torch.linalg.eigh(flat @ flat.T)
    values = (axes[:, -1] @ flat).reshape(clip.shape[1:]).numpy()
    low, high = float(values.min()), float(values.max())
    scale = -(-PICTURE_SIDE // min(clip.shape[-2:]))
    grey = (values - low) / max(high - low, 1e-6)
    size = (clip.shape[-1] * scale, clip.shape[-2] * scale)
    large = [cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in grey]
    return (np.clip(np.stack(large), 0, 1) * 255).astype(np.uint8)
