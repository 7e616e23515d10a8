"""Frames with their times."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av

from .colour import UNSTATED, Colours

_SHORTEST, _LONGER = Fraction(1, 100), Fraction(1, 10)  # seconds


@dataclass(frozen=True)
class Timed:
    """Anything with a presentation time and a duration in seconds."""

    time: Fraction
    duration: Fraction


@dataclass(frozen=True)
class TimedFrame(Timed):
    """A decoded frame, the width of a pixel over its height, the colours stated for it, and its codec."""

    frame: av.VideoFrame
    pixel_aspect: Fraction = Fraction(1)
    colours: Colours = UNSTATED
    codec: str = ""


def shown_duration(stated: Fraction) -> Fraction:
    """The seconds for which browsers show a picture of an animation: a tenth where a hundredth or less is stated."""
    return _LONGER if stated <= _SHORTEST else stated
