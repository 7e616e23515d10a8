"""PSNR and SSIM of a clip against its source. Neither is learned.

Clips are (f, h, w, 3) in [0, 1], arrays or tensors on the CPU. torchmetrics has both measures, but unlike the paper its
SSIM counts windows over a mirrored border, and a report should need no more packages than an edit.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from torch import Tensor

from ..checks import OVERSHOOT

Clip: TypeAlias = np.ndarray | Tensor  # (f, h, w, 3) in [0, 1]
_LEAST_ERROR = 1e-10  # mean squared error below which clips count as equal: 100 dB
_WINDOW = 11  # pixels, and
_SIGMA = 1.5  # pixels: the Gaussian window of the paper
_C1, _C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def psnr(frames: Clip, source: Clip) -> float:
    """Peak signal-to-noise ratio over all pixels of the clip, in dB; higher is closer, 100 for equal clips.

    Raises:
        ValueError: if the clips differ in shape, or are no clips in [0, 1].
    """
    frames, source = checked_pair(frames, source)
    return _decibels(np.square(frames - source))


def background_psnr(frames: Clip, source: Clip, covered: np.ndarray, margin: int = 4) -> float | None:
    """PSNR in dB over all pixels further than `margin` from what is `covered`; higher is closer.

    Arguments:
        frames, source: (f, h, w, 3) in [0, 1].
        covered: (f, h, w), above 0 where the source or the edit may show the object.
        margin: pixels, horizontally and vertically.

    Returns:
        The PSNR, or None if no pixel lies outside.

    Raises:
        ValueError: if the clips and the mask do not fit together.
    """
    frames, source = checked_pair(frames, source)
    if covered.shape != frames.shape[:3]:
        raise ValueError(f"The mask covers {covered.shape} frames and pixels, the clips have {frames.shape[:3]}.")
    grow = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    outside = np.stack([cv2.dilate((mask > 0).astype(np.uint8), grow) == 0 for mask in covered])
    return _decibels(np.square(frames[outside] - source[outside])) if outside.any() else None


def ssim(frames: Clip, source: Clip) -> np.ndarray:
    """Structural similarity of each frame, (f,) in [-1, 1]; higher is closer, 1 for equal frames.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004: Gaussian
    window of 11 x 11 pixels and sigma 1.5, the mean over windows that lie inside the frame; here over R, G and B too.

    Raises:
        ValueError: if the clips differ in shape, or a frame is smaller than the window.
    """
    frames, source = checked_pair(frames, source)
    if min(frames.shape[1:3]) < _WINDOW:
        raise ValueError(f"SSIM needs frames of {_WINDOW} x {_WINDOW} pixels or more, got {frames.shape[1:3]}.")
    return np.array([_ssim(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(frames, source, strict=True)])


def checked_pair(frames: Clip, source: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Two clips as arrays.

    Raises:
        ValueError: unless they have the same shape (f, h, w, 3), a frame, and numbers about [0, 1].
    """
    frames, source = np.asarray(frames), np.asarray(source)
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"Expected a clip of shape (f, h, w, 3) with at least one frame, got {frames.shape}.")
    if frames.shape != source.shape:
        raise ValueError(
            f"The edit has {_described(frames)}, its source {_described(source)}: "
            "take as many frames of the source as the edit has, at its size."
        )
    for clip in (frames, source):
        check_pixels(clip)
    return frames, source


def check_pixels(clip: np.ndarray) -> None:
    """Raise a ValueError unless the numbers of a clip lie about [0, 1]."""
    if clip.dtype.kind != "f" or not -OVERSHOOT <= clip.min() <= clip.max() <= 1 + OVERSHOOT:
        raise ValueError(
            f"A clip holds numbers in [0, 1], not {clip.dtype} from {clip.min():g} to {clip.max():g}: "
            "divide pixels of 8 bits by 255."
        )


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a = _windowed(a * a) - mean_a**2
    var_b = _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (var_a + var_b + _C2)
    return float((luminance * structure).mean())


def _windowed(picture: np.ndarray) -> np.ndarray:
    """Weighted mean under each window that lies inside: (h, w, 3) -> (h - 10, w - 10, 3)."""
    edge = _WINDOW // 2
    return cv2.GaussianBlur(picture, (_WINDOW, _WINDOW), _SIGMA)[edge:-edge, edge:-edge]


def _decibels(squared_error: np.ndarray) -> float:
    return float(-10 * np.log10(max(float(squared_error.mean()), _LEAST_ERROR)))


def _described(clip: np.ndarray) -> str:
    return f"{clip.shape[0]} frames of {clip.shape[2]} x {clip.shape[1]} pixels" if clip.ndim == 4 else str(clip.shape)
