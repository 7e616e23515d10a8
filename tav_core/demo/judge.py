"""A judge of pixels: the frames of an edit against the frames that the world draws under the same words.

A place has many layouts, and an edit to another place is free to choose one. Such an edit is judged at the pixels that
are determined: alike in nearly all layouts. Every other edit keeps a place that the source shows, and is judged at all
pixels. The figure of a frame is what differs from the place drawn without it.

Of each frame, four measures in [0, 1]: the intersection over union of its figure with the true one, counted near the
true one, and the share of pixels that come out within DIFFERENT of the true edit, of the figure's pixels, of all
others, and of those that the edit was to change. A frame is right, strictly or loosely, if all four reach a threshold.
The judge is blind to a wrong phase of small movements: joints are judged beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .world import VOCABULARY, Drawing, Words
from .world.colour import lab_difference, to_lab

DIFFERENT = 12.0  # CIEDE2000 from which two pixels count as different
SURELY_ALIKE = 5.0  # CIE76 distance up to which CIEDE2000 is below DIFFERENT: it is at most 2.1 times as large
REACH = 12  # pixels about the true figure within which figures are compared
FULL_MARKS_DB = 99.0  # PSNR of frames that are equal

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Thresholds:
    """What the measures of a frame must reach, each in [0, 1]."""

    iou: float
    figure: float
    rest: float
    changed: float


STRICT = Thresholds(iou=0.75, figure=0.75, rest=0.93, changed=0.60)
LOOSE = Thresholds(iou=0.55, figure=0.50, rest=0.85, changed=0.40)


@dataclass(frozen=True)
class Truth:
    """What the frames of an edit are judged against. f frames, h = w = SIZE pixels.

    frames: (f, h, w, 3) in [0, 1], the true edit.
    lab, place_lab: (f, h, w, 3) in CIE L*a*b*, the true edit, and its place without the figure.
    figure_mask: (f, h, w), the figure where nothing hides it.
    figure: (f, h, w), what differs from the place in the true edit, as figure_in finds it.
    near: (f, h, w), pixels within REACH of figure_mask.
    determined: (f, h, w), pixels that are judged.
    changed: (f, h, w), pixels at which the true edit differs from the source.
    flow: (f - 1, h, w, 2) in pixels, and visible: (f - 1, h, w), pixels whose point also shows in the next frame.
    """

    frames: NDArray[np.float32]
    lab: Floats
    place_lab: Floats
    figure_mask: Bools
    figure: Bools
    near: Bools
    determined: Bools
    changed: Bools
    flow: NDArray[np.float32]
    visible: Bools


@dataclass(frozen=True)
class Scores:
    """Measures of each frame, (f,), and of each pair of neighbouring frames, (f - 1,).

    iou, figure, rest, changed: in [0, 1]; see the head of this module.
    figure_psnr, rest_psnr: dB against the true edit, of the figure's pixels and of all others.
    flicker: mean absolute difference in [0, 1] between a frame and the next one, warped back by the true flow;
    true_flicker: the same of the true edit, which edges and rounding keep above 0.
    """

    iou: Floats
    figure: Floats
    rest: Floats
    changed: Floats
    figure_psnr: Floats
    rest_psnr: Floats
    flicker: Floats
    true_flicker: Floats

    def reaches(self, thresholds: Thresholds) -> Bools:
        """Which frames reach all four thresholds, (f,)."""
        return (
            (self.iou >= thresholds.iou)
            & (self.figure >= thresholds.figure)
            & (self.rest >= thresholds.rest)
            & (self.changed >= thresholds.changed)
        )

    @property
    def strict(self) -> Bools:
        return self.reaches(STRICT)

    @property
    def loose(self) -> Bools:
        return self.reaches(LOOSE)


def edit_kind(words: Words, edited: Words) -> str:
    """The kind of an edit: the keys of the words that it changes, in the order of VOCABULARY, joined by " and "."""
    return " and ".join(kind for kind in VOCABULARY if words[kind] != edited[kind])


def make_truth(source: Drawing, edit: Drawing) -> Truth:
    """The truth about an edit, from the same scene drawn under the words of the source and of the edit.

    Raises:
        ValueError: if the two drawings are not of one scene or differ in length.
    """
    if source.scene != edit.scene or len(source.frames) != len(edit.frames):
        raise ValueError("source and edit are the same scene, drawn at the same length under other words")
    lab, place_lab = to_lab(edit.frames), to_lab(edit.place)
    free = source.words["place"] != edit.words["place"]
    determined = edit.determined if free else np.ones(edit.figure_mask.shape, np.bool_)
    near = np.stack([_grown(mask) for mask in edit.figure_mask])
    return Truth(
        frames=edit.frames,
        lab=lab,
        place_lab=place_lab,
        figure_mask=edit.figure_mask,
        figure=figure_in(lab, place_lab, near),
        near=near,
        determined=determined,
        changed=differ(to_lab(source.frames), lab),
        flow=edit.flow,
        visible=_visible(edit.labels, edit.flow),
    )


def judge(frames: NDArray, truth: Truth) -> Scores:
    """Judge an edit.

    Arguments:
        frames: (f, h, w, 3) in [0, 1].

    Raises:
        ValueError: if the shape is not that of the true edit.
    """
    if frames.shape != truth.frames.shape:
        raise ValueError(f"frames have the shape {truth.frames.shape}, not {frames.shape}")
    lab = to_lab(frames)
    within = ~differ(lab, truth.lab)
    judged, mask = truth.determined, truth.figure_mask
    found, near = figure_in(lab, truth.place_lab, truth.near), truth.near & judged
    error = np.square(frames - truth.frames).mean(axis=-1)
    return Scores(
        iou=_share(found & truth.figure & near, (found | truth.figure) & near),
        figure=_share(within, mask & judged),
        rest=_share(within, ~mask & judged),
        changed=_share(within, truth.changed & judged),
        figure_psnr=_psnr(error, mask & judged),
        rest_psnr=_psnr(error, ~mask & judged),
        flicker=_flicker(frames, truth),
        true_flicker=_flicker(truth.frames, truth),
    )


def figure_in(lab: Floats, place_lab: Floats, near: Bools) -> Bools:
    """What differs from the place without the figure, freed of single pixels by a 3 x 3 median: (f, h, w).

    Arguments:
        lab, place_lab: (f, h, w, 3) in CIE L*a*b*.
        near: (f, h, w), where to look.
    """
    differs = np.zeros(near.shape, np.uint8)
    differs[near] = differ(lab[near], place_lab[near])
    return np.stack([cv2.medianBlur(frame, 3) for frame in differs]).astype(np.bool_)


def differ(first: Floats, second: Floats) -> Bools:
    """Whether colours in CIE L*a*b*, (..., 3), are more than DIFFERENT apart in CIEDE2000: (...)."""
    result = np.square(first - second).sum(axis=-1) > SURELY_ALIKE**2
    result[result] = lab_difference(first[result], second[result]) > DIFFERENT
    return np.asarray(result)


def _share(hits: Bools, among: Bools) -> Floats:
    """Share of hits in each frame, (f,); 1 in a frame with nothing to hit."""
    total = among.sum(axis=(1, 2))
    return np.where(total == 0, 1.0, (hits & among).sum(axis=(1, 2)) / np.maximum(total, 1))


def _psnr(error: Floats, among: Bools) -> Floats:
    """PSNR in dB of each frame, (f,), from squared errors (f, h, w)."""
    mean = (error * among).sum(axis=(1, 2)) / np.maximum(among.sum(axis=(1, 2)), 1)
    return -10 * np.log10(np.maximum(mean, 10 ** (-FULL_MARKS_DB / 10)))


def _grown(mask: Bools) -> Bools:
    """Pixels at most REACH from a mask, (h, w)."""
    if not mask.any():
        return mask
    distance = cv2.distanceTransform(np.uint8(~mask), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= REACH)


def _targets(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns and rows to which the pixels of a frame have moved, (h, w, 2)."""
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]]
    return np.float32(np.stack([columns, rows], axis=-1)) + flow


def _visible(labels: NDArray[np.uint8], flow: NDArray[np.float32]) -> Bools:
    """Pixels that show the same part in the next frame, at the place to which flow carries them: (f - 1, h, w)."""
    visible = np.zeros(flow.shape[:3], np.bool_)
    for index, motion in enumerate(flow):
        x, y = np.moveaxis(np.rint(_targets(motion)).astype(int), -1, 0)
        inside = (x >= 0) & (y >= 0) & (x < labels.shape[2]) & (y < labels.shape[1])
        visible[index, inside] = labels[index + 1, y[inside], x[inside]] == labels[index, inside]
    return visible


def _flicker(frames: NDArray, truth: Truth) -> Floats:
    result = np.zeros(len(truth.flow))
    for index, motion in enumerate(truth.flow):
        counted = truth.visible[index] & truth.determined[index]
        warped = cv2.remap(np.float32(frames[index + 1]), _targets(motion), None, cv2.INTER_LINEAR)
        result[index] = np.abs(warped - frames[index])[counted].mean() if counted.any() else 0.0
    return result
