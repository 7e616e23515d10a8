"""The person and the robot. Shapes in body heights, x ahead, y up, from the far side to the near."""

from __future__ import annotations

from .geometry import Colour, Frame, Points, Shape, oval_at, point, polygon, shade, taper
from .skeleton import BODY_BONE, HEAD, HEAD_BONE, HIP, NECK, NUM_JOINTS

SKIN: Colour = (246, 200, 160)
HAIR: Colour = (92, 56, 40)
TROUSERS: Colour = (78, 112, 130)
SHOES: Colour = (112, 66, 52)
STEEL: Colour = (150, 160, 176)
DARK: Colour = (40, 44, 58)
GLASS: Colour = (140, 236, 240)
LAMP: Colour = (255, 208, 70)


def limb(
    points: Points, index: int, radii: tuple[float, float, float], colours: tuple[Colour, Colour], group: int
) -> list[Shape]:
    """Upper and lower bone of limb `index`, lower first so that the upper one covers the joint."""
    root, mid, end = points[NUM_JOINTS + index], points[3 + 2 * index], points[4 + 2 * index]
    bone = 2 + 2 * index
    return [
        Shape(taper(mid, end, radii[1], radii[2]), colours[1], group, bone + 1),
        Shape(taper(root, mid, radii[0], radii[1]), colours[0], group, bone),
    ]


def limb_end(points: Points, index: int) -> Frame:
    """The frame at the end of a limb, `up` pointing out of it."""
    return Frame.of(points[3 + 2 * index], points[4 + 2 * index])


def person(points: Points, coat: Colour, girth: float) -> list[Shape]:
    shapes = _person_arm(points, 1, shade(coat, 0.68), girth, 1)
    shapes += _person_leg(points, 3, shade(TROUSERS, 0.7), girth, 2)
    shapes += _person_leg(points, 2, TROUSERS, girth, 3)
    shapes.append(Shape(taper(points[HIP], 0.9 * points[NECK], 0.098 * girth, 0.108 * girth), coat, 4, BODY_BONE))
    shapes += _person_head(points)
    return shapes + _person_arm(points, 0, shade(coat, 0.86), girth, 7)


def _person_arm(points: Points, index: int, sleeve: Colour, girth: float, group: int) -> list[Shape]:
    hand = limb_end(points, index).at(0.0, 0.015)
    shapes = [Shape(oval_at(hand, 0.052, 0.052), SKIN, group, 3 + 2 * index)]
    return shapes + limb(points, index, (0.06 * girth, 0.054 * girth, 0.048), (sleeve, sleeve), group)


def _person_leg(points: Points, index: int, cloth: Colour, girth: float, group: int) -> list[Shape]:
    foot = limb_end(points, index)
    toe = foot.at(-0.085, 0.0)
    shapes = [Shape(taper(foot.origin, toe, 0.055, 0.045), SHOES, group, 3 + 2 * index)]
    return shapes + limb(points, index, (0.082 * girth, 0.07 * girth, 0.056), (cloth, cloth), group)


def _person_head(points: Points) -> list[Shape]:
    face = Frame.of(points[NECK], points[HEAD])
    hair = polygon(
        (0.05, 0.148),
        (-0.04, 0.158),
        (-0.12, 0.11),
        (-0.15, 0.02),
        (-0.11, -0.06),
        (-0.04, 0.0),
        (0.0, 0.06),
        (0.13, 0.075),
        (0.11, 0.12),
    )
    return [
        Shape(oval_at(face.at(0.0, 0.0), 0.132, 0.132), SKIN, 5, HEAD_BONE),
        Shape(face.place(hair), HAIR, 5, HEAD_BONE),
        Shape(oval_at(face.at(0.07, 0.0), 0.02, 0.026), DARK, -1, HEAD_BONE),
    ]


def robot(points: Points, coat: Colour, girth: float) -> list[Shape]:
    shapes = _robot_limb(points, 1, shade(STEEL, 0.68), shade(coat, 0.62), 1)
    shapes += _robot_limb(points, 3, shade(STEEL, 0.68), shade(coat, 0.62), 2)
    shapes += _robot_limb(points, 2, STEEL, shade(coat, 0.82), 3)
    chest = Frame.of(points[HIP], points[NECK])
    half, low = 0.135 * girth, -0.31
    trunk = polygon((-half, 0.0), (half, 0.0), (0.85 * half, low), (-0.85 * half, low))
    plate = polygon((-0.04, -0.07), (0.1, -0.07), (0.1, -0.16), (-0.04, -0.16))
    shapes += [
        Shape(chest.place(trunk), coat, 4, BODY_BONE),
        Shape(chest.place(plate), LAMP, -1, BODY_BONE),
    ]
    shapes += _robot_head(points, coat)
    return shapes + _robot_limb(points, 0, STEEL, shade(coat, 0.82), 7)


def _robot_limb(points: Points, index: int, steel: Colour, end: Colour, group: int) -> list[Shape]:
    tip = limb_end(points, index)
    if index >= 2:
        sole = polygon((-0.115, 0.045), (0.065, 0.045), (0.065, -0.045), (-0.09, -0.045))
        last = tip.place(sole)
    else:
        last = oval_at(tip.at(0.0, 0.01), 0.062, 0.062)
    width = 0.052 if index >= 2 else 0.043
    shapes = limb(points, index, (width, width, width), (steel, steel), group)
    return [*shapes, Shape(last, end, group, 3 + 2 * index)]


def _robot_head(points: Points, coat: Colour) -> list[Shape]:
    head = Frame.of(points[NECK], points[HEAD])
    skull = polygon((-0.125, -0.115), (0.125, -0.115), (0.125, 0.105), (-0.125, 0.105))
    visor = polygon((-0.03, 0.055), (0.125, 0.055), (0.125, -0.045), (-0.03, -0.045))
    return [
        Shape(taper(head.at(-0.02, 0.1), head.at(-0.02, 0.17), 0.014, 0.014), DARK, 5, HEAD_BONE),
        Shape(oval_at(head.at(-0.02, 0.185), 0.033, 0.033), LAMP, 5, HEAD_BONE),
        Shape(head.place(skull), coat, 6, HEAD_BONE),
        Shape(head.place(visor), GLASS, -1, HEAD_BONE),
        Shape(oval_at(head.at(0.07, 0.005), 0.022, 0.032), DARK, -1, HEAD_BONE),
    ]


def tail(root: Points, tip: Points, widths: tuple[float, float], colour: Colour, group: int) -> Shape:
    """A stroke that moves with the body."""
    return Shape(taper(root, tip, *widths), colour, group, BODY_BONE)


def between(start: Points, end: Points, share: float) -> Points:
    return point(*(start + share * (end - start)))
