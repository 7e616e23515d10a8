"""Propagate what an edit changes along the optical flow of the clip: each frame takes the mean of its neighbours.

Frames that are edited separately come out differently: one gets a ring, the next one a disc. The mean of their changes,
warped along the flow, gives all of them the same. TokenFlow (arXiv:2307.10373) propagates features of the network in
this way, and Rerender A Video (arXiv:2306.07954) pixels. The flow is estimated on the latents, whose first principal
component is a small picture of the clip, so no frames are needed.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..video.optical_flow import track

PICTURE_SIDE = 128  # pixels; a latent picture is enlarged by an integer factor until its shorter side is at least this
TOLERANCE = 0.5  # latent pixels; a point with a larger forward-backward error counts as not visible


class FlowPropagation:
    """The optical flow of a clip, along which changes are propagated.

    Arguments:
        latents: the clean clip, (b, c, f, h, w), any floating type and device.
    """

    def __init__(self, latents: Tensor):
        self.tracks = [list(_tracks(clip)) for clip in latents.detach().float().cpu()]

    def propagate(self, offset: Tensor) -> Tensor:
        """Replace the change of each frame with the mean over its neighbours, warped along the flow.

        Arguments:
            offset: (b, c, f, h, w), floating, any device.

        Returns:
            The same shape, type and device.
        """
        propagated = [
            torch.stack([_mean(changes[:, near], grids, visible) for near, grids, visible in tracks], dim=1)
            for changes, tracks in zip(offset, self.tracks, strict=True)
        ]
        return torch.stack(propagated)


def _mean(changes: Tensor, grids: Tensor, visible: Tensor) -> Tensor:
    """The mean of n frames (c, n, h, w), each warped by its grid and weighted by what is visible: (c, h, w)."""
    frames, visible = changes.transpose(0, 1), visible.to(changes)[:, None]
    height, width = frames.shape[-2:]
    inner = 1 - 1 / torch.tensor([width, height])  # the outermost pixels' centres: MPS lacks padding_mode="border"
    grids = torch.minimum(torch.maximum(grids, -inner), inner)
    warped = F.grid_sample(frames, grids.to(changes), align_corners=False)
    return (visible * warped).sum(0) / visible.sum(0)


def _tracks(clip: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """For each frame of (c, f, h, w): its n neighbours, where its points lie in them, and how visible they are.

    Points are (n, h, w, 2) as `grid_sample` takes them, visibility (n, h, w) in [0, 1].
    """
    height, width = clip.shape[-2:]
    pictures = latent_pictures(clip)
    scale = pictures.shape[1] // height
    size = np.array([width, height], np.float32) * scale
    for near in track(pictures, TOLERANCE * scale):
        points = np.stack([_shrink(other.points, width, height) for other in near])
        visible = np.stack([_shrink(other.visible.astype(np.float32), width, height) for other in near])
        grids = 2 * (points + 0.5) / size - 1
        yield slice(near[0].index, near[-1].index + 1), torch.from_numpy(grids), torch.from_numpy(visible)


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
