"""Windows of a clip that is longer than the model was tuned on.

A window holds frames s .. s + n - 1 of the clip. The model is led into it by frames 0 and s - 1, in front of its own,
whose output is dropped: in sparse-causal attention (arXiv:2212.11565, section 3.2) each frame of the window then sees
what it would see in the whole clip. Windows overlap, and a frame's predictions are averaged with weights that fall
towards the ends of a window, as in FreeNoise (arXiv:2310.15169, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import MAX_NUMBERS, check_integer

if TYPE_CHECKING:  # settings can be made without the model
    from ..diffusion.denoiser import Denoiser
    from ..diffusion.schedule import NoiseSchedule

MOST_LEADS = 2


@dataclass(frozen=True)
class Window:
    """Consecutive frames of a clip.

    Attributes:
        start: the first frame, s.
        length: the number of frames.
    """

    start: int
    length: int

    @property
    def leads(self) -> list[int]:
        """The frames that lead the model into the window: 0 and s - 1, each once; none at the clip's beginning."""
        return sorted({0, self.start - 1}) if self.start else []

    @property
    def frames(self) -> list[int]:
        """The frames of the window."""
        return list(range(self.start, self.start + self.length))

    @property
    def seen(self) -> list[int]:
        """What the model is given: the leads, then the frames."""
        return self.leads + self.frames

    @property
    def weights(self) -> Tensor:
        """The weight of each frame's prediction, (length,): 1, 2, .. in the middle .. 2, 1."""
        rising = torch.arange(1, self.length + 1)
        return torch.minimum(rising, rising.flip(0)).float()


@dataclass(frozen=True, eq=False)
class Led:
    """A denoiser of a window: the frames that lead it stand before what it is given, and their prediction is dropped.

    Attributes:
        denoiser: of clips.
        leads: the leading frames at the noise level that is asked for, (b, c, n, h, w); n may be 0.
    """

    denoiser: Denoiser
    leads: Tensor

    @property
    def schedule(self) -> NoiseSchedule:
        """That of the denoiser."""
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """See `Denoiser`."""
        return self.denoiser(torch.cat([self.leads, x_t], dim=2), t)[:, :, self.leads.shape[2] :]


def windows_of(num_frames: int, length: int, overlap: int) -> list[Window]:
    """Windows that cover a clip, each `length - overlap` frames after the one before; the last ends with the clip.

    Arguments:
        num_frames: of the clip.
        length: frames of a window.
        overlap: frames that two neighbouring windows share, fewer than `length`.

    Raises:
        TypeError, ValueError: if a number is no such number.
    """
    check_integer("num_frames", num_frames, 1, MAX_NUMBERS)
    check_windows(length, overlap)
    if num_frames <= length:
        return [Window(0, num_frames)]
    starts = [*range(0, num_frames - length, length - overlap), num_frames - length]
    return [Window(start, length) for start in starts]


def check_windows(length: int, overlap: int) -> None:
    """Check the size of windows.

    Raises:
        TypeError, ValueError: if a number is no whole number in its range.
    """
    check_integer("context_length", length, 1, MAX_NUMBERS)
    check_integer("overlap", overlap, 0, length - 1)
