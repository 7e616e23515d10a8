"""Several clips on one model: each has weights of its own, and the model those of the clip that runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

from torch import Tensor

from ..unet.adapters import Adapter
from ..unet.video_unet import VideoUNet, trainable_parameters
from .keys import weight_marks

Step = TypeVar("Step")
_holders: WeakKeyDictionary[Adapter, ref[ClipWeights]] = WeakKeyDictionary()


class ClipWeights:
    """The trained weights of one clip. They are in the model while it runs, and stored while another clip does.

    The first clip of a model takes the weights that it has, each other one starts untuned.

    Arguments:
        video_unet: the model.
    """

    def __init__(self, video_unet: VideoUNet):
        self._video_unet = video_unet
        self._stored: tuple[dict[str, Tensor], float] | None = None  # the tuning at strength 1, and its strength
        self._marks: object = None
        self._version = 0
        self.hold()

    def hold(self) -> VideoUNet:
        """The model, with the weights of this clip in it."""
        adapter = self._video_unet.adapter
        found = _holders.get(adapter)
        if found is not None and found() is self:
            return self._video_unet
        if found is not None:
            if (holder := found()) is not None:
                holder._store()
            if self._stored is None:
                self._video_unet.reset()
            else:
                tuned, scale = self._stored
                adapter.load(tuned, scale, own_set=True)
                self._stored, self._marks = None, self._present()
        _holders[adapter] = ref(self)
        return self._video_unet

    def version(self) -> int:
        """A number that is another one after each change of the model's weights, by whomever."""
        self.hold()
        return self._count()

    def during(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps, each taken with the weights of this clip in the model."""
        try:
            while True:
                self.hold()
                try:
                    step = next(steps)
                except StopIteration:
                    return
                yield step
        finally:
            if hasattr(steps, "close"):
                self.hold()
                steps.close()  # a store may save the state of a tuning

    def _store(self) -> None:
        self._count()
        adapter = self._video_unet.adapter
        self._stored = adapter.tuned, adapter.scale

    def _count(self) -> int:
        if (present := self._present()) != self._marks:
            self._version, self._marks = self._version + 1, present
        return self._version

    def _present(self) -> Any:
        trained = trainable_parameters(self._video_unet)
        ours = {id(weight) for weight in trained.values()}
        others = ((n, p) for n, p in self._video_unet.unet.named_parameters() if id(p) not in ours)
        # Of inference tensors torch counts no writes.
        frozen = [(name, id(weight), 0 if weight.is_inference() else weight._version) for name, weight in others]
        return weight_marks(trained), frozen
