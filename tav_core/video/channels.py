"""Mix sound of many channels to stereo, as files with seven channels or more than eight are hardly ever played."""

from __future__ import annotations

import torch

from .media import LAYOUTS, Audio

_CENTRE, _LOW = 2, 3  # channels for both sides, in the usual orders: front left, right, centre, low frequencies, ...
_BACK_CENTRE = 4  # of seven channels, 6.1


def mixed(audio: Audio) -> Audio:
    """The sound as float32 on the CPU, mixed to stereo if `LAYOUTS` has no name for its number of channels.

    Weights are those of ITU-R BS.775. Others than the front centre and the low frequencies go to the left and the right
    in turn. Each side's weights add up to 1, so that nothing clips.
    """
    samples = audio.samples.detach().cpu().float()
    count = len(samples)
    if count in LAYOUTS:
        return Audio(samples, audio.sample_rate)
    both = {_CENTRE, _LOW} | ({_BACK_CENTRE} if count == 7 else set())
    weights = torch.zeros(2, count)
    side = 0
    for channel in range(count):
        if channel in both:
            weights[:, channel] = 0.5 if channel != _CENTRE else 0.5**0.5
        else:
            weights[side, channel] = 1 if channel < 2 else 0.5**0.5
            side = 1 - side
    return Audio(weights / weights.sum(1, keepdim=True) @ samples, audio.sample_rate)
