"""The bundled clips: what they show, and the scenes from which the world draws them again without loss."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..checks import check_choice
from ..models.base import ASSETS
from .world import Scene, Words, draw, random_scene
from .world.hints import HINTS

FILES = {"cartwheel": ASSETS / "demo-clip.json", "cartwheel-2": ASSETS / "demo-clip-2.json"}


@dataclass(frozen=True)
class BundledClip:
    """What a bundled clip shows.

    Attributes:
        caption: of the clip.
        motion: the name of its held-out motion, which the caption does not say.
        scene, words: from which `world.draw` draws it.
        num_frames, fps: how many frames, and how many a second.
    """

    caption: str
    motion: str
    scene: Scene
    words: Words
    num_frames: int
    fps: Fraction


def bundled_clip(name: str = "cartwheel") -> BundledClip:
    """A clip of `BUNDLED_CLIPS` as the file beside it describes it."""
    saved = json.loads(FILES[name].read_text(encoding="utf-8"))
    scene, _ = random_scene(saved["seed"], held_out=True)
    return BundledClip(
        saved["caption"], saved["motion"], scene, saved["words"], saved["num_frames"], Fraction(saved["fps"])
    )


def bundled_hints(kind: str) -> Tensor:
    """What a ControlNet of the bundled model follows in the bundled clip: its depth, its joints as bones, or its edges.

    Arguments:
        kind: "depth", "pose" or "canny".

    Returns:
        (f, h, w, 3) in [0, 1].

    Raises:
        ValueError: it is another kind.
    """
    check_choice("kind", kind, list(HINTS))
    clip = bundled_clip()
    return torch.from_numpy(HINTS[kind](draw(clip.scene, clip.words, clip.num_frames)))
