"""The dog, the horse, the bird and the crab. Shapes in body heights of a person, from the far side to the near."""

from __future__ import annotations

import numpy as np

from .geometry import Colour, Frame, Points, Shape, oval_at, polygon, shade, taper
from .people import DARK, between, limb, limb_end, tail
from .skeleton import BODY_BONE, HEAD, HEAD_BONE, HIP, NECK, NUM_JOINTS

WHITE: Colour = (250, 250, 246)
BEAK: Colour = (245, 150, 40)
MANE: Colour = (74, 50, 48)


def dog(points: Points, coat: Colour, girth: float) -> list[Shape]:
    far, mid = shade(coat, 0.66), shade(coat, 0.87)
    shapes = [s for index in (1, 3) for s in _leg(points, index, far, 0.062, index)]
    rump = Frame.of(points[NECK], points[HIP])
    shapes.append(tail(rump.at(0.06, 0.06), rump.at(0.22, 0.17), (0.05, 0.032), coat, 4))
    shapes.append(Shape(taper(points[HIP], points[NECK], 0.118 * girth, 0.135 * girth), coat, 4, BODY_BONE))
    shapes += _dog_head(points, coat)
    return shapes + [s for index in (2, 0) for s in _leg(points, index, mid, 0.068, 10 + index)]


def _dog_head(points: Points, coat: Colour) -> list[Shape]:
    neck, head = points[NECK], points[HEAD]
    face = Frame.of(neck, head)
    ear = polygon((-0.1, 0.09), (-0.02, 0.1), (0.01, 0.0), (-0.03, -0.1), (-0.1, -0.09), (-0.13, 0.0))
    snout_from, snout_to = face.at(0.05, -0.02), face.at(0.175, -0.045)
    return [
        Shape(taper(between(points[HIP], neck, 0.93), head, 0.11, 0.095), coat, 4, HEAD_BONE),
        Shape(taper(snout_from, snout_to, 0.075, 0.058), coat, 5, HEAD_BONE),
        Shape(oval_at(face.at(0.0, 0.015), 0.118, 0.115), coat, 5, HEAD_BONE),
        Shape(oval_at(face.at(0.215, -0.02), 0.032, 0.028), DARK, -1, HEAD_BONE),
        Shape(oval_at(face.at(0.06, 0.045), 0.021, 0.027), DARK, -1, HEAD_BONE),
        Shape(face.place(ear), shade(coat, 0.55), 6, HEAD_BONE),
    ]


def _leg(points: Points, index: int, colour: Colour, radius: float, group: int) -> list[Shape]:
    foot = limb_end(points, index)
    paw = Shape(taper(foot.origin, foot.at(-0.045, 0.0), 0.052, 0.045), shade(colour, 0.8), group, 3 + 2 * index)
    return [paw, *limb(points, index, (radius * 1.2, radius, 0.05), (colour, colour), group)]


def horse(points: Points, coat: Colour, girth: float) -> list[Shape]:
    far, mid = shade(coat, 0.66), shade(coat, 0.87)
    shapes = [s for index in (1, 3) for s in _hoofed_leg(points, index, far, index)]
    rump = Frame.of(points[NECK], points[HIP])
    shapes.append(tail(rump.at(0.07, 0.07), rump.at(-0.1, 0.22), (0.04, 0.06), MANE, 4))
    shapes.append(Shape(taper(points[HIP], points[NECK], 0.135 * girth, 0.13 * girth), coat, 5, BODY_BONE))
    shapes += _horse_head(points, coat)
    return shapes + [s for index in (2, 0) for s in _hoofed_leg(points, index, mid, 10 + index)]


def _horse_head(points: Points, coat: Colour) -> list[Shape]:
    neck, head = between(points[HIP], points[NECK], 0.96), points[HEAD]
    face = Frame.of(neck, head)
    nose = face.at(0.19, -0.115)
    mane = polygon((-0.02, 0.11), (-0.1, 0.05), (-0.14, -0.12), (-0.16, -0.28), (-0.06, -0.26), (-0.02, -0.05))
    ear = polygon((-0.055, 0.05), (0.015, 0.06), (-0.02, 0.155))
    return [
        Shape(face.place(mane), MANE, 4, HEAD_BONE),
        Shape(taper(neck, head, 0.125, 0.075), coat, 5, HEAD_BONE),
        Shape(face.place(ear), shade(coat, 0.7), 5, HEAD_BONE),
        Shape(taper(head, nose, 0.085, 0.062), coat, 5, HEAD_BONE),
        Shape(taper(face.at(0.175, -0.107), face.at(0.2, -0.12), 0.058, 0.052), shade(coat, 0.7), -1, HEAD_BONE),
        Shape(oval_at(face.at(0.04, 0.012), 0.02, 0.026), DARK, -1, HEAD_BONE),
    ]


def _hoofed_leg(points: Points, index: int, colour: Colour, group: int) -> list[Shape]:
    hoof = limb_end(points, index)
    foot = polygon((-0.065, 0.05), (0.05, 0.05), (0.038, -0.05), (-0.042, -0.05))
    shapes = limb(points, index, (0.09, 0.056, 0.042), (colour, colour), group)
    return [*shapes, Shape(hoof.place(foot), MANE, group, 3 + 2 * index)]


def bird(points: Points, coat: Colour, girth: float) -> list[Shape]:
    shapes = _wing(points, 1, shade(coat, 0.6), 1)
    shapes += _bird_leg(points, 3, shade(BEAK, 0.75), 2) + _bird_leg(points, 2, BEAK, 3)
    rump = Frame.of(points[NECK], points[HIP])
    fan = polygon((0.03, -0.02), (0.12, 0.2), (0.0, 0.25), (-0.07, 0.05))
    shapes.append(Shape(rump.place(fan), shade(coat, 0.72), 4, BODY_BONE))
    middle = between(points[HIP], points[NECK], 0.5)
    trunk = Frame.of(points[HIP], points[NECK])
    angle = float(np.arctan2(trunk.up[1], trunk.up[0]))
    shapes.append(Shape(oval_at(middle, 0.225, 0.17 * girth, angle), coat, 5, BODY_BONE))
    shapes += _bird_head(points, coat)
    return shapes + _wing(points, 0, shade(coat, 0.78), 7)


def _bird_head(points: Points, coat: Colour) -> list[Shape]:
    neck, head = points[NECK], points[HEAD]
    face = Frame.of(neck, head)
    return [
        Shape(face.place(polygon((0.08, 0.06), (0.08, -0.06), (0.25, -0.02))), BEAK, 6, HEAD_BONE),
        Shape(taper(between(points[HIP], neck, 0.9), head, 0.13, 0.11), coat, 5, HEAD_BONE),
        Shape(oval_at(head, 0.13, 0.13), coat, 5, HEAD_BONE),
        Shape(oval_at(face.at(0.055, 0.03), 0.036, 0.036), WHITE, -1, HEAD_BONE),
        Shape(oval_at(face.at(0.065, 0.03), 0.02, 0.024), DARK, -1, HEAD_BONE),
    ]


def _wing(points: Points, index: int, colour: Colour, group: int) -> list[Shape]:
    root, mid, end = points[NUM_JOINTS + index], points[3 + 2 * index], points[4 + 2 * index]
    bone = 2 + 2 * index
    return [
        Shape(taper(mid, end, 0.085, 0.03), colour, group, bone + 1),
        Shape(taper(root, mid, 0.1, 0.085), colour, group, bone),
    ]


def _bird_leg(points: Points, index: int, colour: Colour, group: int) -> list[Shape]:
    foot = limb_end(points, index)
    toes = Shape(taper(foot.at(0.03, 0.0), foot.at(-0.09, 0.0), 0.026, 0.024), colour, group, 3 + 2 * index)
    return [toes, *limb(points, index, (0.036, 0.03, 0.028), (colour, colour), group)]


def crab(points: Points, coat: Colour, girth: float) -> list[Shape]:
    shapes = []
    for start in range(NUM_JOINTS + 4, len(points), 3):
        bone = 10 + 2 * (start - NUM_JOINTS - 4) // 3
        shapes += _crab_leg(points[start : start + 3], bone, shade(coat, 0.66), start)
    for index in (2, 3):
        joints = points[[NUM_JOINTS + index, 3 + 2 * index, 4 + 2 * index]]
        shapes += _crab_leg(joints, 2 + 2 * index, shade(coat, 0.74), index)
    shell = Frame.of(points[HIP], points[NECK])
    for side in (-1, 1):
        shapes += _eye(points, shell, side)
    shapes += [
        Shape(oval_at(shell.at(0.0, -0.07), 0.3 * girth, 0.185, -_slope(shell)), coat, 4, BODY_BONE),
        Shape(oval_at(shell.at(0.0, -0.13), 0.1, 0.02, -_slope(shell), 12), shade(coat, 0.5), -1, BODY_BONE),
    ]
    for index in (1, 0):
        shapes += _claw(points, index, shade(coat, 0.85), 6 + index)
    return shapes


def _slope(shell: Frame) -> float:
    """Angle by which the axis `ahead` falls, in radians."""
    return float(-shell.ahead[1])


def _crab_leg(joints: Points, bone: int, colour: Colour, group: int) -> list[Shape]:
    root, mid, end = joints
    return [
        Shape(taper(mid, end, 0.04, 0.024), colour, group, bone + 1),
        Shape(taper(root, mid, 0.045, 0.04), colour, group, bone),
    ]


def _eye(points: Points, shell: Frame, side: int) -> list[Shape]:
    head = Frame.of(points[NECK], points[HEAD])
    ball = head.at(0.1 * side, 0.02)
    return [
        Shape(taper(shell.at(0.1 * side, 0.03), ball, 0.024, 0.024), DARK, 2, HEAD_BONE),
        Shape(oval_at(ball, 0.068, 0.068), WHITE, 3, HEAD_BONE),
        Shape(oval_at(head.at(0.1 * side + 0.02, 0.025), 0.03, 0.034), DARK, -1, HEAD_BONE),
    ]


def _claw(points: Points, index: int, colour: Colour, group: int) -> list[Shape]:
    tip = limb_end(points, index)
    side = 1 if index == 0 else -1
    jaw = polygon((0.0, 0.06), (0.05 * side, 0.2), (-0.03 * side, 0.2))
    return [
        *limb(points, index, (0.05, 0.05, 0.05), (shade(colour, 0.85), shade(colour, 0.85)), group),
        Shape(oval_at(tip.at(0.0, 0.06), 0.098, 0.118, count=20), colour, group, 3 + 2 * index),
        Shape(tip.place(jaw), DARK, -1, 3 + 2 * index),
    ]
