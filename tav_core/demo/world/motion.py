"""Motions as signals that any skeleton can follow: the same motion on a person, a dog or a crab.

A motion maps a phase (in cycles) to a Pose. Four are the actions that captions name. The held-out motions are of the
whole body: no training picture shows them and no caption names them; a caption takes the nearest action instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NEAR_FRONT, FAR_FRONT, NEAR_HIND, FAR_HIND = range(4)


@dataclass(frozen=True, slots=True)
class Limb:
    """swing: -1 back to 1 forward. bend: 0 straight to 1 folded. reach: 0 hanging to 1 raised (arms above the head)."""

    swing: float = 0.0
    bend: float = 0.0
    reach: float = 0.0


@dataclass(frozen=True, slots=True)
class Pose:
    """What a figure does at one moment. Angles in radians, forward positive; lift in body heights."""

    limbs: tuple[Limb, Limb, Limb, Limb]  # near front, far front, near hind, far hind
    lean: float = 0.0
    lift: float = 0.0
    turn: float = 0.0  # of the whole body about its middle
    nod: float = 0.0
    rear: float = 0.0  # 0 to 1: a four-legged figure stands on its hind legs
    prone: float = 0.0  # 0 to 1: on hands and knees
    stream: float = 0.0  # 0 to 1: tail, ears and wings stream backwards


def walk(phase: float, gait: float) -> Pose:
    s, c = _wave(phase)
    near, far = Limb(0.62 * gait * s, 0.45 * max(0.0, c)), Limb(-0.62 * gait * s, 0.45 * max(0.0, -c))
    front = Limb(-0.55 * gait * s, 0.12), Limb(0.55 * gait * s, 0.12)
    return Pose((*front, near, far), lean=0.05, nod=0.05 * c)


def run(phase: float, gait: float) -> Pose:
    s, c = _wave(phase)
    near = Limb(0.15 + 1.15 * gait * s, 0.25 + 0.6 * max(0.0, c - 0.4 * s))
    far = Limb(0.15 - 1.15 * gait * s, 0.25 + 0.6 * max(0.0, 0.4 * s - c))
    front = Limb(-1.2 * gait * s, 0.95), Limb(1.2 * gait * s, 0.95)
    return Pose((*front, near, far), lean=0.5, lift=0.05 + 0.07 * abs(s), nod=-0.25, stream=1.0)


def jump(phase: float, gait: float) -> Pose:
    height = _hop(phase)
    s, _ = _wave(phase)
    hind = Limb(0.55 + 0.1 * s, 0.35 + 0.5 * height), Limb(-0.25 - 0.1 * s, 0.45 + 0.4 * height)
    front = Limb(0.3, 0.1, 0.85), Limb(-0.3, 0.1, 0.85)
    pitch = 0.2 * (2 * (phase % 1.0) - 1)
    return Pose((*front, *hind), lean=pitch, lift=0.07 + 0.27 * gait * height, stream=0.3)


def dance(phase: float, gait: float) -> Pose:
    s, c = _wave(phase)
    front = Limb(0.5 * gait * c, 0.25, 0.78 + 0.2 * s), Limb(-0.5 * gait * c, 0.25, 0.78 - 0.2 * s)
    hind = Limb(0.3 + 0.25 * s, 0.45 * max(0.0, s)), Limb(-0.3 + 0.25 * s, 0.45 * max(0.0, -s))
    return Pose((*front, *hind), lean=0.2 * gait * s, nod=-0.2 * s, rear=1.0)


def cartwheel(phase: float, gait: float) -> Pose:
    spread = 0.75 * gait
    limbs = Limb(0.9, 0.0, 0.95), Limb(-0.9, 0.0, 0.95), Limb(spread, 0.0), Limb(-spread, 0.0)
    return Pose(limbs, turn=2 * np.pi * phase)


def handstand(phase: float, gait: float) -> Pose:
    s, c = _wave(phase)
    front = Limb(0.7 * gait * s, 0.1, 1.0), Limb(-0.7 * gait * s, 0.1, 1.0)
    hind = Limb(0.35 + 0.25 * c, 0.2), Limb(-0.35 + 0.25 * c, 0.35)
    return Pose((*front, *hind), turn=np.pi + 0.12 * s, nod=-0.3)


def somersault(phase: float, gait: float) -> Pose:
    height = _hop(phase)
    tuck = 0.25 + 0.75 * height
    front = Limb(0.6, 0.8 * tuck), Limb(0.4, 0.8 * tuck)
    hind = Limb(0.3, tuck, tuck), Limb(0.0, tuck, tuck)
    return Pose((*front, *hind), lean=0.5 * tuck, lift=0.03 + 0.32 * gait * height, turn=2 * np.pi * phase, nod=0.4)


def roll(phase: float, gait: float) -> Pose:
    limbs = Limb(0.9, 0.9), Limb(0.7, 0.9), Limb(0.4, 1.0, 0.95), Limb(0.2, 1.0, 0.95)
    return Pose(limbs, lean=0.7 * gait, turn=2 * np.pi * phase, nod=0.6)


def crawl(phase: float, gait: float) -> Pose:
    s, c = _wave(phase)
    front = Limb(0.5 * gait * s, 0.05), Limb(-0.5 * gait * s, 0.05)
    hind = Limb(-0.35 * gait * s, 0.85), Limb(0.35 * gait * s, 0.85)
    return Pose((*front, *hind), prone=1.0, nod=0.1 * c)


def upside_down(phase: float, gait: float) -> Pose:
    s, c = _wave(phase)
    front = Limb(0.5 * s, 0.15, 0.9), Limb(-0.3 + 0.4 * s, 0.15, 0.9)
    hind = Limb(0.25 + 0.2 * c, 0.3), Limb(-0.25 + 0.2 * c, 0.2)
    return Pose((*front, *hind), lift=0.16 + 0.05 * c, turn=np.pi + 0.3 * gait * s)


Motion = Callable[[float, float], Pose]
ACTIONS: dict[str, Motion] = {"walk": walk, "run": run, "jump": jump, "dance": dance}
HELD_OUT: dict[str, Motion] = {
    "cartwheel": cartwheel,
    "handstand": handstand,
    "somersault": somersault,
    "roll": roll,
    "crawl": crawl,
    "upside_down": upside_down,
}
NEAREST_ACTION = {
    "cartwheel": "jump",
    "handstand": "walk",
    "somersault": "jump",
    "roll": "run",
    "crawl": "walk",
    "upside_down": "dance",
}
CYCLES_PER_FRAME = {  # at tempo 1
    "walk": 1 / 13,
    "run": 1 / 9,
    "jump": 1 / 11,
    "dance": 1 / 10,
    "cartwheel": 1 / 15,
    "handstand": 1 / 12,
    "somersault": 1 / 14,
    "roll": 1 / 12,
    "crawl": 1 / 12,
    "upside_down": 1 / 13,
}


def _wave(phase: float) -> tuple[float, float]:
    return float(np.sin(2 * np.pi * phase)), float(np.cos(2 * np.pi * phase))


def _hop(phase: float) -> float:
    """Height of a leap, 0 to 1, once in each cycle."""
    share = phase % 1.0
    return 4 * share * (1 - share)
