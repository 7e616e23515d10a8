"""A clip from frames in memory, such as another node's."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
import torch

from .choose import check_count, check_request, check_size, every_nth
from .media import Audio, as_rate
from .picture import fitted
from .read import VideoClip
from .sound import paste
from .timed import Timed


@dataclass(frozen=True)
class IndexedFrame(Timed):
    """A frame in memory, with its index."""

    index: int


def choose_frames(
    frames: torch.Tensor,
    fps: float | Fraction,
    audio: Audio | None = None,
    *,
    num_frames: int | None = None,
    start: float = 0.0,
    stride: int = 1,
    width: int,
    height: int,
    fit: str = "crop",
) -> VideoClip:
    """Choose frames in memory and resize them, as `read_video` does with those of a file.

    Arguments:
        frames: (f, h, w, 3) in [0, 1], any floating type and device.
        fps: of these frames.
        audio: their sound, which begins with the first frame.
        num_frames, start, stride, width, height, fit: as in `read_video`.

    Returns:
        The VideoClip that `read_video` would return.

    Raises:
        VideoError: if an argument is out of range, or there are too few frames.
    """
    request = check_request("The VIDEO in memory", num_frames, start, stride, None)
    check_size(width, height, fit)
    rate = as_rate(fps)
    timed = (IndexedFrame(index / rate, 1 / rate, index) for index in range(len(frames)))
    chosen = list(islice(every_nth(timed, request.start, stride), num_frames))
    check_count(request, len(chosen), len(frames) / rate)
    pictures = frames[[frame.index for frame in chosen]].detach().cpu().float().clamp(0, 1).numpy()
    resized = (fitted(picture, Fraction(1), width, height, fit) for picture in pictures)
    pictures = np.stack([picture.clip(0, 1) for picture in resized])  # enlarging overshoots
    sound = None
    if audio is not None:
        samples = np.zeros((len(audio.samples), round(len(chosen) * stride / rate * audio.sample_rate)), np.float32)
        overlaps = paste(samples, audio.samples.numpy(), -round(chosen[0].time * audio.sample_rate))
        sound = Audio(torch.from_numpy(samples), audio.sample_rate) if overlaps else None
    times = tuple(float(frame.time) for frame in chosen)
    return VideoClip(torch.from_numpy(pictures), rate / stride, sound, frames.shape[2], frames.shape[1], times)
