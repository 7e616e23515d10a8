"""The arguments of `write_video`, checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from ..checks import shown
from .media import MAX_SIDE, Audio, VideoError, check_integer

_MAX_CHANNELS = 64
_MAX_SAMPLE_RATE = 384_000  # Hz
_MAX_FRAMES = 10**6
_OVERSHOOT = 0.5  # of pixels beyond [0, 1] that is still clipped, as of decoders


@dataclass(frozen=True, eq=False)
class Clip:
    """The arguments of `write_video`. The crf is checked with the format.

    Raises:
        VideoError: if frames, sound or metadata cannot be written.
    """

    frames: torch.Tensor | np.ndarray
    rate: Fraction
    audio: Audio | None
    crf: int | None
    metadata: dict[str, str]
    before_frame: Callable[[], object] | None

    def __post_init__(self) -> None:
        if not isinstance(self.frames, (torch.Tensor, np.ndarray)):
            raise VideoError(f"frames must be a tensor or an array, not {shown(self.frames)}.")
        _check_in_memory("frames", self.frames)
        shape = tuple(self.frames.shape)
        if len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise VideoError(f"frames must be (frames, height, width, 3) and not empty, not {shape}.")
        check_integer("the number of frames", shape[0], 1, _MAX_FRAMES)
        for name, side in (("height", shape[1]), ("width", shape[2])):
            check_integer(f"the frames' {name}", side, 1, MAX_SIDE)
        kind = str(self.frames.dtype).removeprefix("torch.")
        if kind not in ("uint8", "float16", "bfloat16", "float32", "float64"):
            raise VideoError(f"frames must be float in [0, 1] or uint8, not {kind}.")
        if kind != "uint8":
            pixels = self.frames.detach() if isinstance(self.frames, torch.Tensor) else self.frames
            low, high = float(pixels.min()), float(pixels.max())
            if not np.isfinite([low, high]).all():
                raise VideoError("frames hold NaN or infinite pixels: check the step that made them.")
            if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
                raise VideoError(f"float frames must lie in [0, 1], not {low:g} to {high:g}: rescale them.")
        if not all(isinstance(text, str) for texts in self.metadata.items() for text in texts):
            raise VideoError("metadata must be strings by name: encode other values as JSON.")
        if self.audio is not None:
            _check_audio(self.audio)

    def pictures(self, kind: type[np.uint8] | type[np.uint16] = np.uint8) -> Iterator[np.ndarray]:
        """Each frame as contiguous uint8 or uint16 (h, w, 3)."""
        top = np.iinfo(kind).max
        for frame in self.frames:
            if self.before_frame is not None:
                self.before_frame()
            pixels = frame.detach().cpu() if isinstance(frame, torch.Tensor) else torch.as_tensor(frame)
            if pixels.dtype == torch.uint8:
                picture = pixels.numpy().astype(kind) * kind(top // 255)
            else:
                picture = (pixels.float().clamp(0, 1) * top).round().numpy().astype(kind)
            yield np.ascontiguousarray(picture)


def _check_in_memory(name: str, numbers: torch.Tensor | np.ndarray) -> None:
    if isinstance(numbers, torch.Tensor) and (numbers.is_meta or numbers.layout is not torch.strided):
        raise VideoError(f"{name} must be a plain tensor in memory, not {numbers.layout} on {numbers.device}.")


def _check_audio(audio: Audio) -> None:
    samples = audio.samples
    if not isinstance(samples, torch.Tensor):
        raise VideoError(f"audio samples must be a tensor, not {shown(samples)}.")
    _check_in_memory("audio samples", samples)
    if samples.ndim != 2 or not 1 <= len(samples) <= _MAX_CHANNELS or not samples.is_floating_point():
        raise VideoError(f"audio samples must be float (channels, n), not {samples.dtype} {tuple(samples.shape)}.")
    if not samples.isfinite().all():
        raise VideoError("audio holds NaN or infinite samples: check the step that made them.")
    check_integer("the sample rate", audio.sample_rate, 1, _MAX_SAMPLE_RATE)
