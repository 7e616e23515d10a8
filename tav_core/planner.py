"""What a step will need, before it is run: the peak of memory and the floating-point operations.

The model's own code runs on tensors that have a shape, a type and a lifetime, but no storage (torch's FakeTensorMode).
A ledger notes when each of them comes and goes. So nothing about the model is assumed: what its code keeps for the way
back is counted, with every option, and a change of the code changes the plan.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from .inflation import VideoUNet, trainable_parameters
from .sampling import SamplingConfig, guided_prediction
from .tuning import TuningConfig

TEXT_TOKENS = 77  # of CLIP, whatever the prompt's length
PREDICTION_TIMESTEP = 500  # any


@dataclass(frozen=True)
class Plan:
    """What one step needs.

    Attributes:
        weights: bytes of the model's weights.
        moments: bytes that AdamW keeps between two updates; 0 while sampling.
        activations: bytes of all else at the peak: activations, gradients, temporary tensors.
        flops: floating-point operations of matrix products, convolutions and attention.
    """

    weights: int
    moments: int
    activations: int
    flops: int

    @property
    def peak(self) -> int:
        """Bytes of tensors alive at the peak. A process, a driver and the kernels' own buffers come on top."""
        return self.weights + self.moments + self.activations

    def seconds(self, measured: Plan, seconds: float) -> float:
        """The time of a step at the rate at which another one of the same kind was measured."""
        return seconds * self.flops / measured.flops


def plan(
    video_unet: VideoUNet,
    config: TuningConfig | SamplingConfig,
    *,
    num_frames: int,
    height: int,
    width: int,
    dtype: torch.dtype | None = None,
) -> Plan:
    """Predict what one step of tuning or sampling needs.

    Arguments:
        video_unet: the model, anywhere and with any weights; they are not read.
        config: whose step it is, and its options.
        num_frames, height, width: of the latents: a side of 64 is 512 pixels.
        dtype: of the frozen weights; None for that of the model. Weights that train count as float32.

    Returns:
        The plan. It takes seconds to make, whatever the size.
    """
    trained = trainable_parameters(video_unet)
    rehearsal = _Rehearsal(video_unet, config)
    with torch.inference_mode(False), torch.enable_grad(), FakeTensorMode():
        state = _without_storage(video_unet, trained, dtype or video_unet.dtype)
        latents = torch.empty(1, video_unet.unet.config.in_channels, num_frames, height, width)
        text = torch.empty(1, TEXT_TOKENS, video_unet.text_width)
        with Ledger() as ledger:
            torch.func.functional_call(rehearsal, state, (latents, text))
    moments = 2 * sum(parameter.numel() for parameter in trained.values()) * torch.float32.itemsize
    return Plan(
        weights=sum(tensor.nbytes for tensor in state.values()),
        moments=moments if isinstance(config, TuningConfig) else 0,
        activations=ledger.peak,
        flops=ledger.flops,
    )


def frames_that_fit(
    video_unet: VideoUNet, config: TuningConfig | SamplingConfig, memory: float, *, num_frames: int, **size: Any
) -> int:
    """The most frames, up to `num_frames`, whose peak stays within `memory` bytes; 0 if one is too many already.

    Arguments:
        size: height, width and dtype as `plan` takes them.
    """

    def too_large(frames: int) -> bool:
        return plan(video_unet, config, num_frames=frames, **size).peak > memory

    return bisect_left(range(1, num_frames + 1), True, key=too_large)


def _without_storage(video_unet: VideoUNet, trained: dict[str, nn.Parameter], dtype: torch.dtype) -> dict[str, Tensor]:
    """Stand-ins for all weights by their names in a `_Rehearsal`."""
    return {
        f"video_unet.unet.{name}": torch.empty(
            parameter.shape, dtype=torch.float32 if name in trained else dtype, requires_grad=name in trained
        )
        for name, parameter in video_unet.unet.named_parameters()
    }


class _Rehearsal(nn.Module):
    """One step, as a module, so that stand-ins for the weights stay in place during the way back too."""

    def __init__(self, video_unet: VideoUNet, config: TuningConfig | SamplingConfig):
        super().__init__()
        self.video_unet, self.config = video_unet, config

    def forward(self, latents: Tensor, text: Tensor) -> None:
        if isinstance(self.config, SamplingConfig):
            negative = None if self.config.guidance_scale == 1 else text
            with torch.no_grad():
                guided_prediction(self.video_unet, latents, PREDICTION_TIMESTEP, text, negative, self.config)
            return
        clip, before = self.video_unet.clip, self.video_unet.clip.checkpointing
        clip.checkpointing = self.config.gradient_checkpointing
        try:
            dtype = self.config.compute_dtype
            prediction = self.video_unet(latents, PREDICTION_TIMESTEP, text, compute_dtype=dtype)
            (prediction - latents).square().mean().backward()
        finally:
            clip.checkpointing = before


class Ledger(TorchDispatchMode):
    """Counts what operations allocate, until it is given up, and the arithmetic that they do.

    Attributes:
        alive, peak: bytes, now and at most, of storages that came into being under the ledger.
        flops: floating-point operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = self.flops = 0
        self.entries: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {self._key(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and self._key(tensor) not in given | self.entries:
                self._enter(tensor.untyped_storage())
        self.peak = max(self.peak, self.alive)
        self.flops += _flops(func._overloadpacket, args, kwargs or {}, out)
        return out

    @staticmethod
    def _key(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.entries.add(key)
        self.alive += size
        weakref.finalize(storage, partial(self._strike_out, key, size))

    def _strike_out(self, key: int, size: int) -> None:
        self.entries.discard(key)
        self.alive -= size


def _flops(operation: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Of one operation, under the formulas of torch's FlopCounterMode, which lacks the CPU's attention."""
    aten = torch.ops.aten
    if operation == aten._scaled_dot_product_flash_attention_for_cpu:
        return int(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))
    if operation == aten._scaled_dot_product_flash_attention_for_cpu_backward:
        # Scores once more, then the gradients of values, weights, queries and keys: five products for the two forward.
        queries, keys = args[1].shape, args[2].shape
        return 5 * 2 * prod(queries) * keys[-2]
    formula = flop_registry.get(operation)
    return int(formula(*args, **kwargs, out_val=out)) if formula else 0
