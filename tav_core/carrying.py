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

REACH = 8  # frames before and after, of which a frame takes the mean
PICTURE_SIDE = 128  # pixels; a latent picture is enlarged by a whole number until its shorter side is no less
RETURNS = 0.5  # latent pixels; a point that comes back farther off has been lost on the way

Map = np.ndarray  # (height, width, 2): where the points of one frame lie in another, in pixels right and down


class Carrier:
    """The motion of a clip, and what is carried along it.

    Arguments:
        latents: the clean clip, (b, c, f, h, w), any floating type and device.
    """

    def __init__(self, latents: Tensor):
        self.paths = [list(_paths(clip)) for clip in latents.detach().float().cpu()]

    def share(self, offset: Tensor) -> Tensor:
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
    fetched = F.grid_sample(frames, grids.to(changes), padding_mode="border", align_corners=False)
    return (seen * fetched).sum(0) / seen.sum(0)


def _paths(clip: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """For each frame of (c, f, h, w): which frames are near, where its points lie in them, and which share is seen.

    Points are (n, h, w, 2) as `grid_sample` takes them, shares (n, h, w).
    """
    height, width = clip.shape[-2:]
    pictures = latent_pictures(clip)
    scale = pictures.shape[1] // height
    maps = _maps(pictures)
    for i in range(len(pictures)):
        near = range(max(0, i - REACH), min(len(pictures), i + REACH + 1))
        grids = [cv2.resize(maps[i, j], (width, height), interpolation=cv2.INTER_AREA) for j in near]
        seen = [_returning(maps[i, j], maps[j, i], RETURNS * scale) for j in near]
        small = [cv2.resize(share, (width, height), interpolation=cv2.INTER_AREA) for share in seen]
        size = np.array([width, height], np.float32) * scale
        points = 2 * (np.stack(grids) + 0.5) / size - 1
        yield slice(near.start, near.stop), torch.from_numpy(points), torch.from_numpy(np.stack(small))


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


def _maps(pictures: np.ndarray) -> dict[tuple[int, int], Map]:
    """From each frame to all near it, by steps of a frame along Farneback's flow (SCIA 2003; OpenCV)."""
    y, x = np.mgrid[: pictures.shape[1], : pictures.shape[2]].astype(np.float32)
    here, count = np.stack([x, y], -1), len(pictures)
    maps = {(i, i): here for i in range(count)}
    for step in (1, -1):
        flows = {i: _flow(pictures[i], pictures[i + step]) for i in range(count) if 0 <= i + step < count}
        for i in range(count):
            stop = min(count - 1, i + REACH) if step > 0 else max(0, i - REACH)
            for j in range(i, stop, step):
                maps[i, j + step] = maps[i, j] + _fetch(flows[j], maps[i, j])
    return maps


def _flow(now: np.ndarray, after: np.ndarray) -> np.ndarray:
    return cv2.calcOpticalFlowFarneback(
        now, after, None, pyr_scale=0.5, levels=4, winsize=21, iterations=3, poly_n=7, poly_sigma=1.5, flags=0
    )


def _returning(there: Map, back: Map, tolerance: float) -> np.ndarray:
    """1 for the points that come back to where they set out from, 0 for the others: (height, width), float32."""
    y, x = np.mgrid[: there.shape[0], : there.shape[1]]
    gap = np.linalg.norm(_fetch(back, there) - np.stack([x, y], -1), axis=-1)
    return (gap < tolerance).astype(np.float32)


def _fetch(picture: np.ndarray, points: Map) -> np.ndarray:
    return cv2.remap(picture, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
