"""Ways to edit a clip: the published one, its ablations, those that preserve more, and those that a control holds."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.fidelity.scenes import BenchClip
from tav_core import (
    ClipEditor,
    HintControl,
    InversionConfig,
    SamplingConfig,
    Store,
    TuningConfig,
    VideoUNet,
    load_control,
    load_model,
    trainable_parameters,
)
from tav_core.demo.edits import changes
from tav_core.demo.world.hints import HINTS
from tav_core.presets import BUNDLED, BUNDLED_FAST, CONTENT, LOOK
from tav_core.unet.adapters import TEMPORAL

TRAINED = ("published", "without temporal attention", "all weights")


@dataclass(frozen=True)
class Way:
    """Settings of an edit.

    Attributes:
        tuning: None for the image model as it is.
        trained: which weights are tuned, of TRAINED.
        attention: as `inflate` takes it.
        sampling, inversion, start_from: as `ClipEditor.edit` and `invert` take them.
        look: how to sample edits that change the look alone; None for `sampling`.
        options: the other options of `ClipEditor.edit`.
        deflicker: whether the edit is deflickered.
        control: what holds tuning, inversion and sampling, of HINTS; None for nothing.
    """

    tuning: TuningConfig | None = BUNDLED.tuning
    trained: str = "published"
    attention: str = "sparse_causal"
    sampling: SamplingConfig = BUNDLED.sampling
    inversion: InversionConfig = BUNDLED.inversion
    start_from: str = "inversion"
    look: SamplingConfig | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    deflicker: bool = False
    control: str | None = None

    def digest(self) -> str:
        """Of all settings: 12 hexadecimal digits. A setting that is added to a config later changes no digest."""
        settings = {option.name: _chosen(getattr(self, option.name)) for option in fields(self)}
        if self.control is None:
            del settings["control"]
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def with_seed(self, seed: int) -> Way:
        tuning = None if self.tuning is None else replace(self.tuning, seed=seed)
        if self.start_from == "inversion":  # where sampling draws nothing
            return replace(self, tuning=tuning)
        look = None if self.look is None else replace(self.look, seed=seed)
        return replace(self, tuning=tuning, sampling=replace(self.sampling, seed=seed), look=look)

    def sampling_of(self, kinds: Iterable[str]) -> SamplingConfig:
        """How to sample an edit that changes these kinds of words."""
        return self.look if self.look is not None and changes(kinds) == LOOK else self.sampling


def _chosen(settings: Any) -> Any:
    """The settings of a config that are not at their default; anything else as it is."""
    if not is_dataclass(settings):
        return settings
    blank = type(settings)()
    return {name: value for name, value in vars(settings).items() if value != getattr(blank, name)}


_BRANCH = Way(start_from="source_branch", sampling=BUNDLED.source_branch[CONTENT], look=BUNDLED.source_branch[LOOK])
_FRESH = Way(start_from="noise", sampling=BUNDLED.sampling_from("noise"))
WAYS = {
    "published": Way(),
    "untuned": Way(tuning=None),
    "fresh noise": _FRESH,
    "fresh noise, untuned": replace(_FRESH, tuning=None),
    "source branch": _BRANCH,
    "source branch, untuned": replace(_BRANCH, tuning=None),
    "source branch, deflickered": replace(_BRANCH, deflicker=True),
    "fast": Way(
        tuning=BUNDLED_FAST.tuning,
        start_from="source_branch",
        sampling=BUNDLED_FAST.source_branch[CONTENT],
        look=BUNDLED_FAST.source_branch[LOOK],
        deflicker=True,
    ),
    "without sparse-causal attention": Way(attention="per_frame"),
    "without temporal attention": Way(trained="without temporal attention"),
    "all weights tuned": Way(trained="all weights"),
    "published, depth": Way(control="depth"),
    "published, pose": Way(control="pose"),
    "untuned, depth": Way(tuning=None, control="depth"),
    "untuned, pose": Way(tuning=None, control="pose"),
    "source branch, depth": replace(_BRANCH, control="depth"),
    "source branch, pose": replace(_BRANCH, control="pose"),
    "source branch, canny": replace(_BRANCH, control="canny"),
}


class Edited:
    """A clip under one way: tuned and inverted once, then edited.

    Arguments:
        way: how.
        model: folder or name of the base model.
        clip: the clip, whose truth the controls follow.
        store: of tunings and inversions; used where the published weights are tuned.

    Attributes:
        seconds: of the processor, for the tuning and for the inversion.
    """

    def __init__(self, way: Way, model: str, clip: BenchClip, store: Store | None = None):
        self.way = way
        kept = store if way.trained == "published" else None
        frames = torch.from_numpy(clip.source.frames)
        self.editor = ClipEditor(load_model(model), frames, clip.caption, attention=way.attention, store=kept)
        if way.control is not None:
            hints = torch.from_numpy(HINTS[way.control](clip.source))
            self.editor.controls = [HintControl(load_control(f"demo-{way.control}"), hints)]
        began = time.process_time()
        if way.tuning is not None:
            for _ in self.editor.tune(way.tuning, parameters=_trained(self.editor.video_unet, way.trained)):
                pass
        tuned = time.process_time()
        if way.start_from == "inversion":
            for _ in self.editor.invert(way.inversion):
                pass
        self.seconds = tuned - began, time.process_time() - tuned

    def edit(self, prompt: str, kinds: Iterable[str]) -> Tensor:
        """The frames of an edit that changes these kinds of words, (f, h, w, 3) in [0, 1]."""
        way = self.way
        *_, last = self.editor.edit(prompt, way.sampling_of(kinds), start_from=way.start_from, **way.options)
        frames = self.editor.decode(last.latents)
        return torch.stack(list(self.editor.deflicker(frames))) if way.deflicker else frames


def _trained(video_unet: VideoUNet, trained: str) -> list[str] | None:
    """The names of the weights that tuning trains; None for the published ones."""
    if trained == "all weights":
        return [name for name, _ in video_unet.unet.named_parameters()]
    if trained == "without temporal attention":  # which stays as inflation made it and adds nothing
        return [name for name in trainable_parameters(video_unet) if TEMPORAL not in name]
    return None
