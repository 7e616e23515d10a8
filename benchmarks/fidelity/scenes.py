"""Clips of the drawn world that the benchmarks of fidelity edit, and their edits.

Every other clip shows a held-out motion. Settings are found on the clips of DEVELOPMENT; what is claimed is measured on
those of TEST. No picture of either was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tav_core.demo.judge import Truth, make_truth
from tav_core.demo.world import VOCABULARY, Drawing, Scene, Words, caption, draw, random_scene

TEST, DEVELOPMENT = 30_000_000, 31_000_000  # the first seeds
KINDS = (("coat",), ("figure",), ("place",), ("style",), ("coat", "place"))


@dataclass(frozen=True)
class BenchClip:
    """A clip of the drawn world.

    Attributes:
        seed: of its scene.
        num_frames: its length.
    """

    seed: int
    num_frames: int

    @property
    def held_out(self) -> bool:
        """Whether it shows a motion that no training picture shows."""
        return self.seed % 2 == 1

    @cached_property
    def scene(self) -> Scene:
        return self._random[0]

    @cached_property
    def words(self) -> Words:
        return self._random[1]

    @cached_property
    def _random(self) -> tuple[Scene, Words]:
        return random_scene(self.seed, held_out=self.held_out)

    @property
    def caption(self) -> str:
        return caption(self.words)

    @cached_property
    def source(self) -> Drawing:
        return draw(self.scene, self.words, self.num_frames)

    def edited(self, kind: tuple[str, ...]) -> Words:
        """The words of an edit: other ones of each kind named, the same ones whenever it is called."""
        rng = np.random.default_rng((self.seed, KINDS.index(kind)))
        return self.words | {name: another(name, self.words[name], rng=rng) for name in kind}

    def edit(self, kind: tuple[str, ...]) -> Drawing:
        """The true edit."""
        return draw(self.scene, self.edited(kind), self.num_frames)

    def truth(self, kind: tuple[str, ...]) -> Truth:
        return make_truth(self.source, self.edit(kind))


def bench_clips(count: int, num_frames: int, first_seed: int = TEST) -> list[BenchClip]:
    return [BenchClip(first_seed + index, num_frames) for index in range(count)]


def another(kind: str, *taken: str, rng: np.random.Generator) -> str:
    """A word of a kind that is none of those taken."""
    return str(rng.choice([word for word in VOCABULARY[kind] if word not in taken]))
