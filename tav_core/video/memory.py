"""A clip from frames in memory, such as another node's."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
import torch

from .choose import check_count, check_request, check_size, chosen
from .media import Audio, as_rate
from .picture import fitted, size_for
from .read import VideoClip
from .sound import paste
from .timed import Timed


@dataclass(frozen=True)
class IndexedFrame(Timed):
    """A frame in memory, with its index."""

    index: int


def choose_frames(
    frames: torch.Tensor,
    rate: float | Fraction,
    audio: Audio | None = None,
    *,
    num_frames: int | None = None,
    start: float = 0.0,
    stride: int | None = None,
    fps: float | Fraction | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: str = "crop",
    skip_frames: int = 0,
    fewer: bool = False,
) -> VideoClip:
    """Choose frames in memory and resize them, as `read_video` does with those of a file.

    Arguments:
        frames: (f, h, w, 3) in [0, 1], any floating type and device.
        rate: of these frames, in frames per second.
        audio: their sound, which begins with the first frame.
        num_frames, start, stride, fps, width, height, fit, skip_frames, fewer: as in `read_video`.

    Returns:
        The VideoClip that `read_video` would return.

    Raises:
        VideoError: if an argument is out of range, or there are too few frames.
    """
    request = check_request("The VIDEO in memory", num_frames, start, stride, fps, None, skip_frames, fewer)
    check_size(width, height, fit)
    rate = as_rate(rate)
    timed = (IndexedFrame(index / rate, 1 / rate, index) for index in range(len(frames)))
    taken = list(islice(chosen(timed, request), num_frames))
    check_count(request, len(taken), len(frames) / rate)
    pictures = frames[[frame.index for frame in taken]].detach().cpu().float().clamp(0, 1).numpy()
    size = size_for(width, height, frames.shape[2], frames.shape[1])
    resized = (fitted(picture, Fraction(1), *size, fit) for picture in pictures)
    pictures = np.stack([picture.clip(0, 1) for picture in resized])  # enlarging overshoots
    clip_rate = request.fps or rate / request.stride
    sound = None
    if audio is not None:
        samples = np.zeros((len(audio.samples), round(len(taken) / clip_rate * audio.sample_rate)), np.float32)
        begin = taken[0].time if request.fps is None else request.start
        overlaps = paste(samples, audio.samples.numpy(), -round(begin * audio.sample_rate))
        sound = Audio(torch.from_numpy(samples), audio.sample_rate) if overlaps else None
    times = tuple(float(frame.time) for frame in taken)
    return VideoClip(torch.from_numpy(pictures), clip_rate, sound, frames.shape[2], frames.shape[1], times)
