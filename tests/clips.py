"""Short clips of the drawn world, for tests."""

from dataclasses import replace

import torch
from torch import Tensor

from tav_core.demo import world

WORDS = {"figure": "dog", "coat": "red", "action": "run", "place": "park", "style": "flat"}
SCENE = replace(world.random_scene(7)[0], companion=None, in_front=None)


def caption_of(**words: str) -> str:
    """The caption of the clip under other words."""
    return world.caption(WORDS | words)


def drawing_of(num_frames: int = 2, **words: str) -> world.Drawing:
    """The clip under other words, with its truth."""
    return world.draw(SCENE, WORDS | words, num_frames)


def clip_of(num_frames: int = 2, **words: str) -> Tensor:
    """The frames of the clip under other words, (f, 128, 128, 3) in [0, 1]."""
    return torch.from_numpy(world.draw_frames(SCENE, WORDS | words, num_frames)[0])
