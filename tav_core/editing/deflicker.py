"""An edit without its flicker: each frame is held against the frames near it, in pixels, along the motion of the clip.

    where the edit left the clip as it was      the clip + the mean of what was changed in the frames near it
    where it did not                            the mean of the edit in the frames near it

A frame near it counts at a point as far as it agrees, in a patch around it: non-local means (Buades et al., CVPR 2005)
along the motion of the clip, as in Liu & Freeman, "A high-quality video denoising algorithm based on reliable motion
estimation" (ECCV 2010). That the clip without its edit says what a steady edit is, is Bonneel et al., "Blind video
temporal consistency" (SIGGRAPH Asia 2015). What the edit leaves as it was has no flicker to lose, and stays. Flow moves
the ground around an object along with it; so a patch may also lie where the ground has gone to, whichever agrees more.

What the autoencoder loses of the clip, it loses of the edit too. With the decoded clip at hand, as what the edit was
changed from, the clip's own pixels come back where it was left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from ..checks import check_range, check_tensor
from ..video.optical_flow import Neighbour, fetch, follow, inside

TOLERANCE = 1.0  # pixels; a point that comes back farther off has been lost on the way
PATCH = 3.0  # pixels, the standard deviation of the patch in which frames agree or do not
AGREEMENT = 0.3  # distance of two colours in [0, 1]^3 that still agree, a standard deviation


def deflicker(edit: Tensor, clip: Tensor, decoded: Tensor | None = None) -> Iterator[Tensor]:
    """Take the flicker out of an edit, and with the decoded clip give back what the autoencoder lost.

    Arguments:
        edit: the edit's frames, (f, h, w, 3) in [0, 1].
        clip: the frames that were edited, the same shape.
        decoded: these frames encoded and decoded again; None if they are not at hand.

    Yields:
        One frame after the other, (h, w, 3) in [0, 1], float32, on the CPU.

    Raises:
        TypeError, ValueError: a tensor of another shape, or values outside of [0, 1].
    """
    before = clip if decoded is None else decoded
    for name, frames in {"the edit": edit, "the clip": clip, "the decoded clip": before}.items():
        check_tensor(name, frames)
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.shape != edit.shape or 0 in frames.shape:
            raise ValueError(
                f"The edit and its clip are frames (f, h, w, 3) of one size, got {tuple(edit.shape)} and, for {name}, "
                f"{tuple(frames.shape)}: give the frames that were edited."
            )
        check_range(name, frames, 0, 1)
    edited, old, kept = (frames.detach().float().cpu().numpy() for frames in (edit, before, clip))
    changes = edited - old
    grey = np.stack(
        [cv2.cvtColor((frame.clip(0, 1) * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY) for frame in kept]
    )
    for i, near in enumerate(follow(grey, TOLERANCE)):
        change, frame = _means(changes, edited, i, near)
        left = _agreement(change)  # as it was
        yield torch.from_numpy(left * (kept[i] + change) + (1 - left) * frame).clamp(0, 1)


def _means(changes: np.ndarray, edited: np.ndarray, i: int, near: list[Neighbour]) -> np.ndarray:
    """What frame `i` changes, and the frame, in the mean over those near it as they agree in both: (2, h, w, 3)."""
    own = np.stack([changes[i], edited[i]])
    total, weights = np.zeros_like(own), np.zeros_like(own[0, ..., :1])
    for other in near:
        fetched, weight = own, np.zeros_like(weights)
        for points, seen in ((other.points, other.seen), (other.ground, inside(other.ground))):
            found = np.stack([fetch(clip[other.index], points) for clip in (changes, edited)])
            agreement = seen[..., None] * _agreement(found - own)
            better = agreement > weight
            fetched, weight = np.where(better, found, fetched), np.where(better, agreement, weight)
        total, weights = total + weight * fetched, weights + weight
    return total / weights


def _agreement(difference: np.ndarray) -> np.ndarray:
    """1 where pictures that differ by (..., h, w, 3) are the same in a patch, to 0 where they are not: (h, w, 1)."""
    squares = np.square(difference).sum(-1)
    distance = cv2.GaussianBlur(squares if squares.ndim == 2 else squares.sum(0), (0, 0), PATCH)
    return np.exp(-distance / (2 * AGREEMENT**2))[..., None]
