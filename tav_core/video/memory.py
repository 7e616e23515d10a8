"""A clip of frames that are in memory already, another program's or another node's."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
import torch

from .choose import check_count, check_size, checked, every_nth
from .media import Audio, as_rate
from .picture import fitted
from .read import VideoClip
from .sound import paste


@dataclass(frozen=True)
class Moment:
    """A frame in memory: when it is shown (seconds), for how long, and its place."""

    time: Fraction
    duration: Fraction
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
    """Choose frames that are in memory, and bring them to a size, as `read_video` does with those of a file.

    Arguments:
        frames: (f, h, w, 3) in [0, 1], any floating type and device.
        fps: of these frames.
        audio: their sound, from the first frame on.
        num_frames, start, stride, width, height, fit: as in `read_video`.

    Returns:
        VideoClip, as `read_video` would return it.

    Raises:
        VideoError: for a bad argument, and if there are too few frames.
    """
    request = checked("The VIDEO in memory", num_frames, start, stride, None)
    check_size(width, height, fit)
    rate = as_rate(fps)
    moments = (Moment(index / rate, 1 / rate, index) for index in range(len(frames)))
    chosen = list(islice(every_nth(moments, request.start, stride), num_frames))
    check_count(request, len(chosen), len(frames) / rate)
    pictures = frames[[moment.index for moment in chosen]].detach().cpu().float().clamp(0, 1).numpy()
    resized = (fitted(picture, Fraction(1), width, height, fit) for picture in pictures)
    pictures = np.stack([picture.clip(0, 1) for picture in resized])  # which enlarging overshoots
    sound = None
    if audio is not None:
        samples = np.zeros((len(audio.samples), round(len(chosen) * stride / rate * audio.sample_rate)), np.float32)
        heard = paste(samples, audio.samples.numpy(), -round(chosen[0].time * audio.sample_rate))
        sound = Audio(torch.from_numpy(samples), audio.sample_rate) if heard else None
    times = tuple(float(moment.time) for moment in chosen)
    return VideoClip(torch.from_numpy(pictures), rate / stride, sound, frames.shape[2], frames.shape[1], times)
