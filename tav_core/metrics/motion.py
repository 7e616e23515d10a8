"""The motion of an edit compared with its source's, from Farneback's optical flow, which is not learned.

Clips are (f, h, w, 3) arrays in [0, 1]; a flow is (f - 1, h, w, 2), in pixels right and down, from each frame to the
next one. Flow is unreliable in plain areas: read these figures together with those of the source itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from ..video.optical_flow import grey_pictures, grid, warp
from .pixels import check_pixels

_MOVING = 0.5  # pixels per frame, above which the direction of flow is reliable


@dataclass(frozen=True, eq=False)
class Motion:
    """The optical flow of a clip.

    Attributes:
        flow: (f - 1, h, w, 2), in pixels right and down, from each frame to the next.
        visible: (f - 1, h, w), whether the pixel is visible in the next frame too.
    """

    flow: np.ndarray
    visible: np.ndarray


def estimate_motion(frames: np.ndarray) -> Motion:
    """Farneback's flow (SCIA 2003; OpenCV) of each frame to the next, and which pixels stay visible.

    A pixel is visible where forward flow F and backward flow B cancel, |F + B|^2 < 0.01 (|F|^2 + |B|^2) + 0.5 (Sundaram
    et al., ECCV 2010), and the flow does not leave the picture.

    Raises:
        ValueError: if there are fewer than two frames, or the numbers do not lie in [0, 1].
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
        raise ValueError(f"Motion needs a clip of shape (f, h, w, 3) with two frames or more, got {frames.shape}.")
    check_pixels(frames)
    pairs = list(pairwise(grey_pictures(frames)))
    flow = np.stack([_farneback(now, after) for now, after in pairs])
    back = np.stack([_farneback(after, now) for now, after in pairs])
    return Motion(flow, np.stack([_visible(f, b) for f, b in zip(flow, back, strict=True)]))


def warp_error(frames: np.ndarray, source_motion: Motion) -> np.ndarray:
    """The error of each frame, warped along the source's flow, to the frame before: temporal flicker.

    The warping error of Lai et al., "Learning blind video temporal consistency" (ECCV 2018), with Farneback's flow in
    place of a learned one: the squared difference, in the mean over channels and the pixels that stay visible.

    Arguments:
        frames: (f, h, w, 3) in [0, 1].
        source_motion: of the source clip, same frames and size.

    Returns:
        (f - 1,), in [0, 1], lower flickers less; nan for a pair without visible pixels. A perfect edit has the source's
        own error.

    Raises:
        ValueError: the motion is of other frames, or the numbers do not lie in [0, 1].
    """
    if source_motion.visible.shape != (len(frames) - 1, *frames.shape[1:3]):
        raise ValueError(
            f"The source's motion is of {len(source_motion.visible) + 1} frames and {source_motion.visible.shape[1:]} "
            f"pixels, the edit has {len(frames)} and {frames.shape[1:3]}: take the same frames at the same size."
        )
    check_pixels(frames)
    errors = []
    for now, after, flow, visible in zip(frames, frames[1:], source_motion.flow, source_motion.visible, strict=False):
        warped = warp(after.astype(np.float32), grid(visible.shape) + flow.astype(np.float32))
        difference = np.square(now - warped)[visible]
        errors.append(float(difference.mean()) if visible.any() else np.nan)
    return np.array(errors)


def end_point_error(flow: np.ndarray, source_flow: np.ndarray) -> np.ndarray:
    """Mean distance of two flows' end points, (f - 1,) in pixels a frame; lower is closer, 0 for equal motion.

    Minus its mean is V2VBench's motion alignment (github.com/wenhao728/awesome-diffusion-v2v), which uses GMFlow:
    figures from Farneback's flow compare with each other, not with that leaderboard.

    Raises:
        ValueError: the flows differ in shape.
    """
    _check_flows(flow, source_flow)
    return np.linalg.norm(flow - source_flow, axis=-1).mean(axis=(1, 2))


def flow_cosine(flow: np.ndarray, source_flow: np.ndarray) -> float | None:
    """Mean cosine of two flows over the pixels that move in the source, in [-1, 1]; higher is closer.

    One minus it is the idea of EditBoard's FF-beta (arXiv:2409.09668). A pixel without motion in the edit counts 0.

    Returns:
        The cosine, or None if nothing in the source moves by half a pixel.

    Raises:
        ValueError: the flows differ in shape.
    """
    _check_flows(flow, source_flow)
    length, source_length = np.linalg.norm(flow, axis=-1), np.linalg.norm(source_flow, axis=-1)
    moving = source_length > _MOVING
    if not moving.any():
        return None
    product = (flow * source_flow).sum(-1)[moving]
    return float((product / np.maximum(length[moving] * source_length[moving], 1e-6)).mean())


def _check_flows(flow: np.ndarray, source_flow: np.ndarray) -> None:
    if flow.shape != source_flow.shape:
        raise ValueError(f"Flows of {flow.shape} and {source_flow.shape} cannot be compared: give one shape.")


def _farneback(now: np.ndarray, after: np.ndarray) -> np.ndarray:
    return cv2.calcOpticalFlowFarneback(
        now, after, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )


def _visible(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    height, width = flow.shape[:2]
    points = grid(flow.shape[:2]) + flow
    inside = ((points >= -0.5) & (points <= np.array([width, height]) - 0.5)).all(-1)
    backward = warp(back, points)
    gap = np.square(flow + backward).sum(-1)
    return inside & (gap < 0.01 * (np.square(flow).sum(-1) + np.square(backward).sum(-1)) + 0.5)
