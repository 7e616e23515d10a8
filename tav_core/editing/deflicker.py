"""Deflicker an edit: average each frame, in pixels, with its neighbours along the optical flow of the clip.

    where the edit left the clip unchanged      the clip + the mean change in the neighbours
    where it changed the clip                   the mean of the edit in the neighbours

A neighbour counts at a point as much as it agrees in a patch around it: non-local means (Buades et al., CVPR 2005)
along the flow, as in Liu & Freeman, "A high-quality video denoising algorithm based on reliable motion estimation"
(ECCV 2010). Consistency is measured against the unedited clip, as in Bonneel et al., "Blind video temporal consistency"
(SIGGRAPH Asia 2015): what the edit leaves unchanged cannot flicker, and stays. Flow drags the background around an
object along with it, so each point is also looked up along the global motion, and the better match is taken.

The autoencoder loses the same detail of the clip and of its edit. If the decoded clip is given, changes are taken
against it, so that unchanged parts get the clip's own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from ..checks import check_range, check_tensor
from ..video.optical_flow import Neighbour, grey_pictures, inside, track, warp

TOLERANCE = 1.0  # pixels; a point with a larger forward-backward error counts as not visible
PATCH = 3.0  # pixels, the standard deviation of the patch over which frames are compared
AGREEMENT = 0.3  # distance of two colours in [0, 1]^3 that still agree, a standard deviation


def deflicker(edit: Tensor, clip: Tensor, decoded: Tensor | None = None) -> Iterator[Tensor]:
    """Remove the flicker of an edit and, given the decoded clip, restore what the autoencoder lost.

    Arguments:
        edit: the edit's frames, (f, h, w, 3) in [0, 1].
        clip: the frames that were edited, the same shape.
        decoded: these frames encoded and decoded again, or None.

    Yields:
        One frame after the other, (h, w, 3) in [0, 1], float32, on the CPU.

    Raises:
        TypeError, ValueError: if a tensor has another shape, or values outside of [0, 1].
    """
    before = clip if decoded is None else decoded
    _check_frames(edit, {"the edit": edit, "the clip": clip, "the decoded clip": before})
    edited, old, source = (frames.detach().float().cpu().numpy() for frames in (edit, before, clip))
    changes = edited - old
    for i, neighbours in enumerate(track(grey_pictures(source), TOLERANCE)):
        change, frame = _means(changes, edited, i, neighbours)
        unchanged = _agreement(change)
        yield torch.from_numpy(unchanged * (source[i] + change) + (1 - unchanged) * frame).clamp(0, 1)


def _check_frames(edit: Tensor, clips: dict[str, Tensor]) -> None:
    for name, frames in clips.items():
        check_tensor(name, frames)
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.shape != edit.shape or 0 in frames.shape:
            raise ValueError(
                f"The edit and its clip must be frames (f, h, w, 3) of one size, got {tuple(edit.shape)} and, for "
                f"{name}, {tuple(frames.shape)}: give the frames that were edited."
            )
        check_range(name, frames, 0, 1)


def _means(changes: np.ndarray, edited: np.ndarray, i: int, neighbours: list[Neighbour]) -> np.ndarray:
    """The mean change and the mean edit of frame `i` over its neighbours, weighted by agreement: (2, h, w, 3)."""
    own = np.stack([changes[i], edited[i]])
    total, weights = np.zeros_like(own), np.zeros_like(own[0, ..., :1])
    for other in neighbours:
        best, weight = own, np.zeros_like(weights)
        candidates = (other.points, other.visible), (other.global_motion, inside(other.global_motion))
        for points, visible in candidates:
            warped = np.stack([warp(frames[other.index], points) for frames in (changes, edited)])
            agreement = visible[..., None] * _agreement(warped - own)
            better = agreement > weight
            best, weight = np.where(better, warped, best), np.where(better, agreement, weight)
        total, weights = total + weight * best, weights + weight
    return total / weights


def _agreement(difference: np.ndarray) -> np.ndarray:
    """From a difference of pictures (..., h, w, 3): 1 where they are equal in a patch, falling to 0: (h, w, 1)."""
    squares = np.square(difference).sum(-1)
    distance = cv2.GaussianBlur(squares if squares.ndim == 2 else squares.sum(0), (0, 0), PATCH)
    return np.exp(-distance / (2 * AGREEMENT**2))[..., None]
