"""Where in the clip a frame stands, for the temporal attention.

As published, the temporal attention is a sum over a set of frames: shuffled frames come out shuffled, and the order of
the clip is known to the sparse-causal attention alone. With the encoding of Vaswani et al. (arXiv:1706.03762, section
3.5) added to what it reads, as the motion module of AnimateDiff has it (arXiv:2307.04725), it can learn the order.
"""

import torch
from torch import Tensor

WAVELENGTHS = 10000.0  # the longest wave over the shortest; the shortest is 2 pi frames


def sinusoidal_positions(num_frames: int, width: int, like: Tensor) -> Tensor:
    """Sine and cosine of the frame's number, by turns, at falling frequencies.

        p[frame, 2 i] = sin(frame / 10000^(2 i / width))        p[frame, 2 i + 1] = cos(the same)

    Arguments:
        num_frames: frames, counted from 0.
        width: numbers for each frame.
        like: a tensor whose type and device it gets.

    Returns:
        (num_frames, width), in [-1, 1].
    """
    pairs = torch.arange((width + 1) // 2, dtype=torch.float64)
    angles = torch.arange(num_frames, dtype=torch.float64)[:, None] / WAVELENGTHS ** (2 * pairs / width)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # f 2 ceil(width / 2)
    return waves[:, :width].to(like.dtype).to(like.device)  # some devices have no float64
