"""Skeletons: a Pose as points of a body, (n, 2) in body heights of a person, x ahead, y up, hip at the origin.

The first eleven points are the joints that every figure has, in the order of JOINTS. Then follow the roots of the four
limbs, and for the crab the mid and end points of four more legs. For a bird, front limbs are wings; for a crab, claws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import Points, point
from .motion import Limb, Pose

JOINTS = (
    "head",
    "neck",
    "hip",
    "near_front_mid",
    "near_front_end",
    "far_front_mid",
    "far_front_end",
    "near_hind_mid",
    "near_hind_end",
    "far_hind_mid",
    "far_hind_end",
)
HEAD, NECK, HIP = range(3)
NUM_JOINTS = len(JOINTS)
BODY_BONE, HEAD_BONE = 0, 1  # limb k has the bones 2 + 2 k (upper) and 3 + 2 k (lower)


@dataclass(frozen=True, slots=True)
class Proportions:
    """Factors about 1 by which one individual differs from the drawn type."""

    legs: float = 1.0
    torso: float = 1.0
    head: float = 1.0
    girth: float = 1.0


def bones(num_points: int) -> list[tuple[int, int]]:
    """Pairs of point indices: body, head, then upper and lower bone of each limb."""
    pairs = [(HIP, NECK), (NECK, HEAD)]
    for limb in range(4):
        mid = 3 + 2 * limb
        pairs += [(NUM_JOINTS + limb, mid), (mid, mid + 1)]
    for start in range(NUM_JOINTS + 4, num_points, 3):  # further legs: root, mid, end
        pairs += [(start, start + 1), (start + 1, start + 2)]
    return pairs


def biped(pose: Pose, size: Proportions) -> Points:
    spine = pose.lean + 1.3 * pose.prone
    neck = 0.27 * size.torso * _up(spine)
    head = neck + 0.145 * size.head * _up(0.55 * spine + pose.nod)
    shoulder = 0.88 * neck
    limbs = []
    for limb in pose.limbs[:2]:
        upper = (1 - limb.reach) * 0.85 * limb.swing + limb.reach * (2.55 + 0.5 * limb.swing)
        lower = upper + 1.5 * limb.bend * (1 - 0.5 * limb.reach)
        limbs.append((shoulder, 0.165 * _down(upper), 0.155 * _down(lower)))
    for limb in pose.limbs[2:]:
        upper = 0.8 * limb.swing + 1.5 * limb.reach
        lower = upper - 1.85 * limb.bend
        limbs.append((point(0, 0), 0.205 * size.legs * _down(upper), 0.205 * size.legs * _down(lower)))
    return _assemble(head, neck, limbs)


@dataclass(frozen=True, slots=True)
class Build:
    """Lengths of a four-legged body, and the angle of its neck above the level in radians."""

    torso: float
    upper_leg: float
    lower_leg: float
    neck: float
    neck_angle: float


DOG = Build(torso=0.44, upper_leg=0.16, lower_leg=0.16, neck=0.2, neck_angle=0.95)
HORSE = Build(torso=0.44, upper_leg=0.21, lower_leg=0.22, neck=0.33, neck_angle=0.98)


def quadruped(pose: Pose, size: Proportions, build: Build) -> Points:
    pitch = 1.0 * pose.rear - 0.35 * pose.lean
    neck = build.torso * size.torso * point(np.cos(pitch), np.sin(pitch))
    bow = (
        build.neck_angle
        + 0.55 * pitch
        - 0.75 * max(0.0, pose.lean) * (1 - pose.rear)
        - 0.3 * pose.nod
        - 0.4 * pose.prone
    )
    head = neck + build.neck * size.head * point(np.cos(bow), np.sin(bow))
    limbs = [(0.96 * neck, *_leg(limb, pose, size, build, 0.0)) for limb in pose.limbs[:2]]
    limbs += [(0.04 * neck, *_leg(limb, pose, size, build, 0.22)) for limb in pose.limbs[2:]]
    return _assemble(head, neck, limbs)


def _leg(limb: Limb, pose: Pose, size: Proportions, build: Build, hock: float) -> tuple[Points, Points]:
    upper = 0.72 * limb.swing + (1.45 if hock == 0 else 0.7) * limb.reach + hock + 0.55 * pose.prone
    lower = upper - 1.6 * hock - (0.85 if hock == 0 else 0.95) * limb.bend * (1 - 0.5 * pose.prone) - 1.5 * pose.prone
    return build.upper_leg * size.legs * _down(upper), build.lower_leg * size.legs * _down(lower)


def bird(pose: Pose, size: Proportions) -> Points:
    spine = 0.85 + 0.55 * pose.lean + 0.45 * pose.prone - 0.45 * pose.rear
    neck = 0.26 * size.torso * _up(spine)
    head = neck + 0.17 * size.head * _up(0.3 + 0.7 * pose.lean + pose.nod + 0.5 * pose.prone)
    limbs = []
    for limb in pose.limbs[:2]:
        folded = -1.05 + 0.18 * limb.swing - 0.75 * pose.stream * (1 - limb.reach)
        upper = (1 - limb.reach) * folded + limb.reach * (-2.85 + 0.45 * limb.swing)
        limbs.append((0.72 * neck, 0.16 * _down(upper), 0.17 * _down(upper - 0.25 + 0.9 * limb.reach * limb.bend)))
    for limb in pose.limbs[2:]:
        upper = 0.85 * limb.swing + 0.6 * limb.reach + 0.1
        lower = upper - 0.95 * limb.bend - 0.15 - 0.5 * pose.prone
        limbs.append((0.12 * neck, 0.15 * size.legs * _down(upper), 0.14 * size.legs * _down(lower)))
    return _assemble(head, neck, limbs)


def crab(pose: Pose, size: Proportions) -> Points:
    """Seen from the front: near limbs are those on the side ahead."""
    tilt = 0.5 * pose.lean + 0.75 * pose.prone
    neck = 0.2 * size.torso * _up(tilt)
    head = neck + 0.15 * size.head * _up(tilt + 0.5 * pose.nod)
    across = point(np.cos(tilt), -np.sin(tilt))
    limbs = []
    for limb, side in zip(pose.limbs[:2], (1, -1), strict=True):
        upper = side * (1.75 + 0.85 * limb.reach) + 0.25 * limb.swing - 0.8 * side * pose.prone
        lower = side * (2.2 + 0.75 * limb.reach) + 0.35 * limb.swing - 0.8 * side * pose.prone
        limbs.append((0.6 * neck + 0.2 * side * across, 0.15 * _down(upper), 0.13 * _down(lower)))
    further = []
    for limb, side in zip(pose.limbs[2:], (1, -1), strict=True):
        legs = [_crab_leg(limb, side, k, neck, across, size) for k in (0, 1, 2)]
        limbs.append(legs[1])
        further += [legs[0], legs[2]]
    return _assemble(head, neck, limbs, further)


def _crab_leg(
    limb: Limb, side: int, place: int, neck: Points, across: Points, size: Proportions
) -> tuple[Points, Points, Points]:
    """Leg 0 is the uppermost. Neighbouring legs swing against each other."""
    swing = limb.swing * (1, -1, 1)[place]
    upper = side * (1.75 - 0.32 * place - 0.5 * limb.bend * (place == 1)) + 0.32 * swing
    lower = side * (0.42 - 0.2 * place - 0.45 * limb.bend - 0.4 * limb.reach) + 0.5 * swing
    root = (0.28 - 0.1 * place) * neck + (0.23 - 0.07 * place) * side * across
    return root, 0.16 * size.legs * _down(upper), 0.17 * size.legs * _down(lower)


def _assemble(
    head: Points,
    neck: Points,
    limbs: list[tuple[Points, Points, Points]],
    further: list[tuple[Points, Points, Points]] | None = None,
) -> Points:
    """Joints in the order of JOINTS, the roots of the limbs, and root, mid and end of each further leg."""
    ends = [p for root, upper, lower in limbs for p in (root + upper, root + upper + lower)]
    more = [p for root, upper, lower in further or [] for p in (root, root + upper, root + upper + lower)]
    return np.stack([head, neck, point(0, 0), *ends, *(root for root, _, _ in limbs), *more])


def _up(angle: float) -> Points:
    return point(np.sin(angle), np.cos(angle))


def _down(angle: float) -> Points:
    return point(np.sin(angle), -np.cos(angle))
