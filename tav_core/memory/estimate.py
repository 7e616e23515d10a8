"""What a step will need, before it is run: the peak of memory, and the work from which its time follows.

The model's own code runs on tensors that have a shape, a type and a lifetime, but no storage (torch's FakeTensorMode).
A ledger notes when each of them comes and goes. So nothing about the model is assumed: what its code keeps for the way
back is counted, with every option, and a change of the code changes the plan.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..editing.sampling import ONE_BATCH_PIXELS, SamplingConfig, guided_prediction
from ..gathering import gathers, gradients_given_to
from ..rates import Rates
from ..tuning.config import TuningConfig
from ..unet.inflate import VideoUNet, trainable_parameters
from .tracker import Ledger, Work

TEXT_TOKENS = 77  # of CLIP, whatever the prompt's length
_plans: dict[tuple, Plan] = {}  # those made so far, by all that they depend on
PREDICTION_TIMESTEP = 500  # any
OVERHEAD = 1.15  # what kernels and the allocator take beside the tensors that are counted; chosen, not measured


@dataclass(frozen=True)
class Plan:
    """What one step needs.

    Attributes:
        weights: bytes of the model's weights.
        moments: bytes that AdamW keeps between two updates; 0 while sampling.
        activations: bytes of all else at the peak: activations, gradients, temporary tensors.
        work: operations of the way there and back, counted; without those of the optimiser.
    """

    weights: int
    moments: int
    activations: int
    work: Work

    @property
    def flops(self) -> int:
        """Floating-point operations of matrix products, convolutions and attention."""
        return self.work.flops

    @property
    def peak(self) -> int:
        """Bytes of tensors alive at the peak. A process, a driver and the kernels' own buffers come on top."""
        return self.weights + self.moments + self.activations

    @property
    def beside_weights(self) -> float:
        """Bytes to keep free beside the weights, with what kernels and the allocator take."""
        return OVERHEAD * (self.moments + self.activations)

    def seconds(self, rates: Rates) -> float:
        """The time of a step on the machine whose rates these are."""
        return rates.seconds(self.work)


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
        The plan. It takes seconds to make, whatever the size; the same one is made once.
    """
    dtype = dtype or video_unet.dtype
    key = (_architecture(video_unet), _options(config), num_frames, height, width, dtype)
    if key not in _plans:
        _plans[key] = _made(video_unet, config, (num_frames, height, width), dtype)
    return _plans[key]


def _made(
    video_unet: VideoUNet,
    config: TuningConfig | SamplingConfig,
    size: tuple[int, int, int],
    dtype: torch.dtype,
) -> Plan:
    trained = trainable_parameters(video_unet)
    rehearsal = _Rehearsal(video_unet, config)
    with torch.inference_mode(False), torch.enable_grad(), FakeTensorMode():
        state = _without_storage(video_unet, trained, dtype)
        latents = torch.empty(1, video_unet.unet.config.in_channels, *size)
        text = torch.empty(1, TEXT_TOKENS, video_unet.text_width)
        gathering = isinstance(config, TuningConfig) and gathers(config, dtype)
        gathered = [tensor for tensor in state.values() if tensor.requires_grad] if gathering else []
        with Ledger() as ledger, gradients_given_to(lambda *_: None, gathered):
            torch.func.functional_call(rehearsal, state, (latents, text))
    moments = 2 * sum(parameter.numel() for parameter in trained.values()) * torch.float32.itemsize
    return Plan(
        weights=sum(tensor.nbytes for tensor in state.values()),
        moments=moments if isinstance(config, TuningConfig) else 0,
        activations=ledger.peak,
        work=rehearsal.whole(ledger.work),
    )


def _architecture(video_unet: VideoUNet) -> str:
    """A digest of what the model is made of: its modules with their sizes, and what these do not tell."""
    attention = [(block.attention, block.temporal_positions) for block in video_unet.blocks.values()]
    return hashlib.sha256(repr((video_unet, dict(video_unet.unet.config), attention)).encode()).hexdigest()


def _options(config: TuningConfig | SamplingConfig) -> tuple:
    """What of a config makes a difference to a step's size."""
    if isinstance(config, TuningConfig):
        passes = config.gradient_accumulation_steps
        return "tuning", config.gradient_checkpointing, config.compute_dtype, passes
    return "sampling", config.guided, config.guidance_rescale == 0


def frames_that_fit(
    video_unet: VideoUNet, config: TuningConfig | SamplingConfig, memory: float, *, num_frames: int, **size: Any
) -> int:
    """The most frames, up to `num_frames`, whose peak stays within `memory` bytes; 0 if one is too many already.

    Arguments:
        size: height, width and dtype as `plan` takes them.
    """

    def too_large(frames: int) -> bool:
        return plan(video_unet, config, num_frames=frames, **size).peak > memory

    for frames in reversed(_growing(config, num_frames, size["height"] * size["width"])):
        if fitting := bisect_left(frames, True, key=too_large):
            return frames[fitting - 1]
    return 0


def _growing(config: TuningConfig | SamplingConfig, num_frames: int, pixels: int) -> list[range]:
    """Ranges of frames in each of which the peak grows: it falls where two prompts begin to go one after the other."""
    together = ONE_BATCH_PIXELS // pixels if isinstance(config, SamplingConfig) and config.guided else num_frames
    return [range(1, min(together, num_frames) + 1), range(together + 1, num_frames + 1)]


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
        self._passes = config.gradient_accumulation_steps if isinstance(config, TuningConfig) else 1
        self._rehearsed = min(2, self._passes)  # the second adds to the first's gradients, as all others do

    def whole(self, work: Work) -> Work:
        """That of all passes of an update, from that of those that are rehearsed."""
        return Work(*(amount * self._passes // self._rehearsed for amount in astuple(work)))

    def forward(self, latents: Tensor, text: Tensor) -> None:
        clip = self.video_unet.clip
        before = clip.checkpointing
        try:
            self._step(latents, text)
        finally:
            clip.checkpointing = before

    def _step(self, latents: Tensor, text: Tensor) -> None:
        if isinstance(self.config, SamplingConfig):
            config = replace(self.config, guidance_scale=2.0 if self.config.guided else 1.0)  # any but 1
            with torch.no_grad():
                guided_prediction(self.video_unet, latents, PREDICTION_TIMESTEP, text, text, config)
            return
        self.video_unet.clip.checkpointing = self.config.gradient_checkpointing
        dtype = self.config.compute_dtype
        for _ in range(self._rehearsed):
            prediction = self.video_unet(latents, PREDICTION_TIMESTEP, text, compute_dtype=dtype)
            (prediction - latents).square().mean().backward()
