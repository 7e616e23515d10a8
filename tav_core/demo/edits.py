"""The edits of the demo, each beside the true one: the clip as the world draws it under the edit's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..presets import CONTENT, LOOK
from .judge import Scores, edit_kind, judge, make_truth
from .world import Drawing, Words, caption, draw

EDITS: dict[str, Words] = {
    "coat": {"coat": "blue"},
    "figure": {"figure": "robot"},
    "place": {"place": "moon"},
    "style": {"style": "ink"},
    "coat-and-place": {"coat": "green", "place": "snow"},
}
MEASURES = ("iou", "figure", "rest", "changed", "figure_psnr", "rest_psnr", "flicker", "true_flicker")
FILLERS = frozenset(["a", "in", "is", "of", "on", "that", "the"])  # words of a caption that show nothing
HeatMaps = Sequence[tuple[str, Tensor]]


def changes(kinds: Iterable[str]) -> str:
    """Whether an edit changes the look alone, or what is shown, as `Preset.sampling_from` takes it.

    Arguments:
        kinds: of the words that it changes, as in VOCABULARY.
    """
    return LOOK if set(kinds) <= {"coat", "style"} else CONTENT


@dataclass(frozen=True, eq=False)
class DemoEdit:
    """An edit and what is known about it.

    Attributes:
        name: of the edit.
        kind: what it changes, as `edit_kind` says it.
        prompt: what it was sampled under.
        frames, truth: the edit and the true one, (f, h, w, 3) in [0, 1].
        scores: of the judge.
        heat_maps: the words of the prompt that show something, each with its map (f, y, x) in [0, 1]; may be empty.
    """

    name: str
    kind: str
    prompt: str
    frames: Tensor
    truth: Tensor
    scores: Scores
    heat_maps: HeatMaps = ()

    @property
    def num_strict(self) -> int:
        """How many frames the judge calls right, strictly."""
        return int(self.scores.strict.sum())

    @property
    def num_loose(self) -> int:
        """How many frames the judge calls right, loosely."""
        return int(self.scores.loose.sum())

    def mean(self, measure: str) -> float:
        """The mean of a measure over the frames; 0 for the flicker of a single frame."""
        values = getattr(self.scores, measure)
        return float(np.mean(values)) if len(values) else 0.0

    def as_json(self) -> dict[str, Any]:
        """The prompt, the shares of frames that are right, and the means of the measures."""
        shares = {"strict": float(np.mean(self.scores.strict)), "loose": float(np.mean(self.scores.loose))}
        means = {measure: round(self.mean(measure), 4) for measure in MEASURES}
        return {"prompt": self.prompt, "kind": self.kind} | shares | means


def judged(name: str, words: Words, frames: Tensor, source: Drawing, heat_maps: HeatMaps = ()) -> DemoEdit:
    """Judge an edit.

    Arguments:
        words: those that it changes.
        frames: (f, h, w, 3) in [0, 1].
        source: the clip.
    """
    edited = source.words | words
    true = draw(source.scene, edited, len(source.frames))
    scores = judge(frames.numpy(), make_truth(source, true))
    shown = [(word, heat) for word, heat in heat_maps if word not in FILLERS]
    kind = edit_kind(source.words, edited)
    return DemoEdit(name, kind, caption(edited), frames, torch.from_numpy(true.frames), scores, shown)
