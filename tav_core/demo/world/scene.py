"""Scenes: the hidden variables of a clip. Together with five words they say every pixel of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import motion
from .motion import Pose
from .skeleton import Proportions
from .words import VOCABULARY

Words = dict[str, str]
LONGEST = 24  # frames for which a scene keeps its figure inside the picture
SIZES = (64.0, 76.0)  # pixels that a person is high
_SPEEDS = {"walk": (0.8, 1.4), "run": (1.8, 2.6), "jump": (0.5, 1.3), "dance": (0.0, 0.5), None: (0.5, 1.4)}


@dataclass(frozen=True, slots=True)
class Companion:
    """A second figure, farther away, which captions do not name."""

    figure: str
    coat: str
    action: str
    x: float  # pixels at frame 0
    disparity: float
    phase: float
    direction: int


@dataclass(frozen=True, slots=True)
class InFront:
    """A thing between camera and figure, which captions do not name; what it is, the place decides."""

    x: float  # pixels at frame 0
    row: float
    size: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Hidden variables. Positions in pixels, speeds in pixels a frame, phase in cycles.

    `motion` is the name of a held-out motion, or None: then the action among the words decides.
    """

    motion: str | None
    phase: float
    tempo: float
    gait: float
    direction: int
    size: float
    proportions: Proportions
    x: float
    drift: float  # of the figure within the picture
    row: float  # of the ground below the figure
    pan: float  # of the camera
    tilt: tuple[float, float]  # pixels, and the phase of the up and down of the camera
    layout: int
    companion: Companion | None
    in_front: InFront | None

    def pose(self, action: str, time: float) -> Pose:
        """The pose at `time` (in frames)."""
        name = self.motion or action
        moves = motion.HELD_OUT if self.motion else motion.ACTIONS
        return moves[name](self.phase + self.tempo * motion.CYCLES_PER_FRAME[name] * time, self.gait)

    def camera(self, time: float) -> tuple[float, float]:
        """How far the camera has moved to the right, and how far the picture has moved down, in pixels."""
        high, phase = self.tilt
        return self.pan * time, high * float(np.sin(2 * np.pi * (time / 20 + phase)))


def random_words(rng: np.random.Generator) -> Words:
    return {kind: str(words[rng.integers(len(words))]) for kind, words in VOCABULARY.items()}


def random_scene(seed: int, held_out: bool = False) -> tuple[Scene, Words]:
    """A scene and its words, every word as likely as its neighbours; the same seed gives the same scene anywhere.

    Arguments:
        held_out: move the whole body in a way that no training scene does. The action among the words is the nearest.
    """
    rng = np.random.default_rng((int(held_out), seed))
    words = random_words(rng)
    name: str | None = None
    if held_out:
        name = str(rng.choice(tuple(motion.HELD_OUT)))
        words["action"] = motion.NEAREST_ACTION[name]
    return _scene(rng, name, words), words


def _scene(rng: np.random.Generator, name: str | None, words: Words) -> Scene:
    direction = int(rng.choice((-1, 1)))
    speed = direction * rng.uniform(*_SPEEDS[None if name else words["action"]])
    drift = float(np.clip(speed * rng.uniform(0.0, 0.6), -0.9, 0.9))
    middle = 64 - drift * LONGEST / 2
    room = 16 - abs(drift) * 0.4
    row = rng.uniform(106, 114)
    unnamed = rng.random()
    return Scene(
        motion=name,
        phase=rng.uniform(0, 1),
        tempo=rng.uniform(0.85, 1.15),
        gait=rng.uniform(0.88, 1.12),
        direction=direction,
        size=rng.uniform(*SIZES),
        proportions=Proportions(*(float(f) for f in rng.uniform(0.92, 1.08, 4))),
        x=middle + rng.uniform(-room, room),
        drift=drift,
        row=row,
        pan=speed - drift + rng.uniform(-0.4, 0.4),
        tilt=(rng.uniform(0, 2), rng.uniform(0, 1)),
        layout=int(rng.integers(1 << 31)),
        companion=_companion(rng, words) if unnamed < 0.125 else None,
        in_front=_in_front(rng) if unnamed > 0.875 else None,
    )


def _companion(rng: np.random.Generator, words: Words) -> Companion:
    figures = [f for f in VOCABULARY["figure"] if f != words["figure"]]
    coats = [c for c in VOCABULARY["coat"] if c != words["coat"]]
    return Companion(
        figure=str(rng.choice(figures)),
        coat=str(rng.choice(coats)),
        action=str(rng.choice(("walk", "dance"))),
        x=float(rng.choice((22.0, 106.0)) + rng.uniform(-8, 8)),
        disparity=rng.uniform(0.42, 0.55),
        phase=rng.uniform(0, 1),
        direction=int(rng.choice((-1, 1))),
    )


def _in_front(rng: np.random.Generator) -> InFront:
    return InFront(x=rng.uniform(12, 116), row=rng.uniform(122, 127), size=rng.uniform(1.0, 1.35))
