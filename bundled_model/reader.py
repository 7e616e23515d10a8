"""The reader: a small net that reads the five words and the joints of the figure from one frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from tav_core.demo.world import JOINTS, SIZE, VOCABULARY, Words

READER = Path(__file__).with_name("reader.safetensors")
FINE, MIDDLE, COARSE = 32, 64, 80  # channels at 32 x 32, 16 x 16 and 8 x 8
_READ_AT_ONCE = 64


@dataclass(frozen=True)
class Reading:
    """What the net reads from b frames.

    words: for each key of VOCABULARY, logits (b, number of words).
    heat: (b, j, 32 * 32), log probability that a joint lies in a cell of 4 x 4 pixels, row by row.
    joints: (b, j, 2) in pixels, the mean under these probabilities.
    """

    words: dict[str, Tensor]
    heat: Tensor
    joints: Tensor


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut. (b, c, h, w) to the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(*_convolution(channels, channels), *_convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Reader(nn.Module):
    """Frames (b, 3, 128, 128) in [-1, 1] to a Reading.

    Joints are read from heat maps. Words are read from the whole frame, from what lies where the joints are, and from
    the joints as seen from the hip.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), *_convolution(16, FINE, stride=2), Residual(FINE)
        )
        self.middle = nn.Sequential(*_convolution(FINE, MIDDLE, stride=2), Residual(MIDDLE))
        self.coarse = nn.Sequential(*_convolution(MIDDLE, COARSE, stride=2), Residual(COARSE), Residual(COARSE))
        self.to_middle, self.to_fine = nn.Conv2d(COARSE, MIDDLE, 1), nn.Conv2d(MIDDLE, FINE, 1)
        self.up_middle, self.up_fine = Residual(MIDDLE), Residual(FINE)
        self.heat = nn.Sequential(*_convolution(FINE, len(JOINTS), kernel=1))
        seen = 2 * COARSE + FINE + MIDDLE + 2 * len(JOINTS)
        self.words = nn.ModuleDict(
            {k: nn.Sequential(nn.Linear(seen, 64), nn.SiLU(), nn.Linear(64, len(v))) for k, v in VOCABULARY.items()}
        )
        side = SIZE // 4
        centres = 4 * torch.arange(side) + 2.0
        grid = torch.stack([centres.repeat(side), centres.repeat_interleave(side)], dim=1)
        self.register_buffer("grid", grid, persistent=False)  # (32 * 32, 2), columns and rows in pixels

    def forward(self, frames: Tensor) -> Reading:
        fine = self.fine(frames)  # (b, FINE, 32, 32)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.up_middle(middle + _doubled(self.to_middle(coarse)))
        fine = self.up_fine(fine + _doubled(self.to_fine(middle)))
        heat = self.heat(fine).flatten(2).log_softmax(dim=2)
        joints = heat.exp() @ self.grid
        where = heat.detach().exp().mean(dim=1).unflatten(1, fine.shape[2:])[:, None]  # (b, 1, 32, 32)
        hip = joints[:, 2:3].detach()
        seen = torch.cat(
            [
                coarse.mean(dim=(2, 3)),
                coarse.amax(dim=(2, 3)),
                (fine * where).sum(dim=(2, 3)),
                (middle * nn.functional.avg_pool2d(where, 2)).sum(dim=(2, 3)) * 4,
                ((joints.detach() - hip) / 32).flatten(1),
            ],
            dim=1,
        )
        return Reading({kind: head(seen) for kind, head in self.words.items()}, heat, joints)


def load_reader(file: Path) -> Reader:
    """The net that bundled_model.train_reader wrote."""
    reader = Reader()
    reader.load_state_dict(load_file(file))
    return reader.eval().requires_grad_(False)


@torch.no_grad()
def read(reader: Reader, frames: NDArray) -> tuple[list[Words], NDArray[np.float32]]:
    """Read frames (f, 128, 128, 3) in [0, 1]: the words of each, and joints (f, j, 2) in pixels."""
    words: list[Words] = []
    joints = []
    for part in np.array_split(frames, max(1, -(-len(frames) // _READ_AT_ONCE))):
        reading = reader(torch.from_numpy(np.float32(part)).permute(0, 3, 1, 2) * 2 - 1)
        best = {kind: logits.argmax(dim=1).tolist() for kind, logits in reading.words.items()}
        words += [{kind: VOCABULARY[kind][best[kind][index]] for kind in VOCABULARY} for index in range(len(part))]
        joints.append(reading.joints.numpy())
    return words, np.concatenate(joints)


def joint_error(found: NDArray, true: NDArray) -> NDArray[np.float64]:
    """Distance in pixels of the joints of each frame, the mean over joints in the picture: (f, j, 2) twice to (f,)."""
    inside = ((true >= 0) & (true < SIZE)).all(axis=-1)
    distance = np.linalg.norm(np.float64(found) - true, axis=-1)
    return (distance * inside).sum(axis=-1) / np.maximum(inside.sum(axis=-1), 1)


def _convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    return [nn.GroupNorm(8, inputs), nn.SiLU(), convolution]


def _doubled(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
