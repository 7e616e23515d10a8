"""Low-rank updates that learn how each clip looks, and are thrown away (MotionDirector, arXiv:2310.08465, section 4.1).

    W x + B_i A_i x        for clip i, in the attention to frames and in the feed-forward of each block

They train on single frames, without the temporal attention, as an image model is fitted to a few pictures. While the
other weights train on the clip, they act and stay as they are: what they explain, figure and place, need not be learnt
with the motion. They act through hooks, during an update alone: no module and no name of the model changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..unet.modules import base_layer
from ..unet.video_unet import VideoUNet

# Of each spatio-temporal block, as in the paper: the text's attention keeps its hold on what the words mean.
LAYERS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2")


class SpatialUpdates:
    """The updates of all clips.

    Arguments:
        video_unet: the model that they act in.
        num_clips: one set of updates for each.
        rank: of an update; that of a smaller layer is its smaller side.
        learning_rate: with which they train, at its highest.
        seed: from which A is drawn; B is zero at first.
        device: of the weights.
    """

    def __init__(
        self,
        video_unet: VideoUNet,
        num_clips: int,
        *,
        rank: int,
        learning_rate: float,
        seed: int,
        device: torch.device,
    ):
        self.learning_rate = learning_rate
        self._video_unet = video_unet
        self._down: dict[str, nn.Parameter] = {}  # A by layer, (clips, rank, in), float32
        self._up: dict[str, nn.Parameter] = {}  # B by layer, (clips, out, rank)
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode(False):
            for name, layer in self._layers().items():
                wide, out = base_layer(layer).in_features, base_layer(layer).out_features
                low, bound = min(rank, wide, out), wide**-0.5
                drawn = torch.empty(num_clips, low, wide).uniform_(-bound, bound, generator=generator)
                self._down[name] = nn.Parameter(drawn.to(device))
                self._up[name] = nn.Parameter(torch.zeros(num_clips, out, low, device=device))

    def parameters(self) -> dict[str, nn.Parameter]:
        """The weights by name; no name of the UNet begins like theirs."""
        down = {f"spatial.{name}.down": weight for name, weight in self._down.items()}
        return down | {f"spatial.{name}.up": weight for name, weight in self._up.items()}

    @contextmanager
    def training(self, clips: Sequence[int]) -> Iterator[None]:
        """Let the updates of these clips act and train, inside a `with`: what is tuned stays, and time is not seen.

        Arguments:
            clips: the clip of each in the batch. The frames of a batch are those of single frames, b in number.
        """
        tuned = [p for p in self._video_unet.adapter.parameters().values() if p.requires_grad]
        still = [block.attn_temp for block in self._video_unet.blocks.values() if block.attn_temp is not None]
        for parameter in tuned:
            parameter.requires_grad_(False)
        hooks = [module.register_forward_hook(_add_nothing) for module in still]
        try:
            with self._acting(list(clips), trains=True):
                yield
        finally:
            for hook in hooks:
                hook.remove()
            for parameter in tuned:
                parameter.requires_grad_(True)

    def frozen(self, clips: Sequence[int]) -> Any:
        """Let the updates of these clips act, inside a `with`, without a gradient for them."""
        return self._acting(list(clips), trains=False)

    @contextmanager
    def _acting(self, clips: list[int], *, trains: bool) -> Iterator[None]:
        hooks = [
            layer.register_forward_hook(partial(self._add, name, clips, trains))
            for name, layer in self._layers().items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _add(
        self, name: str, clips: list[int], trains: bool, _layer: nn.Module, inputs: tuple[Tensor], output: Tensor
    ) -> Tensor:
        """The output of a layer, (b f, s, out), with its update."""
        down, up = self._down[name][clips], self._up[name][clips]
        if not trains:
            down, up = down.detach(), up.detach()
        tokens = inputs[0].reshape(len(clips), -1, inputs[0].shape[-1])  # b (f s) in
        update = tokens @ down.to(tokens.dtype).mT @ up.to(tokens.dtype).mT
        return output + update.reshape(output.shape)

    def _layers(self) -> dict[str, nn.Module]:
        unet = self._video_unet.unet
        names = [f"{block}.{layer}" for block in self._video_unet.blocks for layer in LAYERS]
        return {name: unet.get_submodule(name) for name in names}


def _add_nothing(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return torch.zeros_like(output)
