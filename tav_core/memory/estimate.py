"""The memory that one step of tuning or sampling takes, estimated by a dry run.

The model's own code runs on tensors that have a shape, a type and a lifetime, but no storage (torch's FakeTensorMode),
under a tracker. So nothing about the model is assumed: everything that its code stores for the backward pass is
counted, under every option, and a change of the code changes the estimate.
"""

from __future__ import annotations

import copy
import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..conditioning import Conditioning
from ..diffusion.denoiser import Denoiser, UNetDenoiser
from ..diffusion.guidance import CFG, ONE_BATCH_PIXELS
from ..diffusion.schedule import NoiseSchedule
from ..editing.config import SamplingConfig
from ..editing.prompt_to_prompt import Controlled, PromptToPrompt, replaced_kinds
from ..tuning.config import TuningConfig
from ..tuning.objective import Objective, companion_of
from ..tuning.passes import Draw, losses
from ..unet.added import added_widths
from ..unet.video_unet import VideoUNet, trainable_parameters
from .tracker import MemoryTracker

if TYPE_CHECKING:
    from ..models.control import HintControl

TEXT_TOKENS = 77  # of CLIP, whatever the prompt's length
TIMESTEP = 500  # any
OVERHEAD = 1.15  # of kernels and the allocator, as a factor on the tensors that are counted; chosen, not measured
_estimates: dict[tuple, MemoryEstimate] = {}  # made so far, by all that they depend on


@dataclass(frozen=True)
class MemoryEstimate:
    """What one step needs.

    Attributes:
        weights: bytes of the model's weights.
        moments: bytes of AdamW's moments; 0 while sampling.
        activations: bytes of all other tensors at the peak: activations, gradients, temporary tensors.
        flops: floating-point operations of matrix products, convolutions and attention, without the optimiser's.
    """

    weights: int
    moments: int
    activations: int
    flops: int

    @property
    def peak(self) -> int:
        """Bytes of tensors alive at the peak, without the process, the driver and the kernels' own buffers."""
        return self.weights + self.moments + self.activations

    @property
    def without_weights(self) -> float:
        """Bytes to leave free for a step once the weights are loaded, kernels and allocator included."""
        return OVERHEAD * (self.moments + self.activations)


def estimate_memory(
    video_unet: VideoUNet,
    config: TuningConfig | SamplingConfig,
    *,
    num_frames: int,
    height: int,
    width: int,
    num_clips: int = 1,
    dtype: torch.dtype | None = None,
    objective: Objective | None = None,
    controls: Sequence[HintControl] = (),
) -> MemoryEstimate:
    """Estimate the memory of one step of tuning or sampling.

    Arguments:
        video_unet: the model, on any device; its weights are not read.
        config: of tuning or sampling.
        num_frames, height, width: of the latents: a side of 64 is 512 pixels.
        num_clips: that are tuned on or sampled.
        dtype: of the frozen weights; None for that of the model. Weights that train count as float32.
        objective: the loss of tuning; None for that of the config. It is called as tuning calls it, may hold tensors of
            its own, and train weights beside those that are tuned.
        controls: what acts beside the prompts; their weights and hints count as weights.

    Returns:
        The estimate. It takes seconds for any size; equal ones are cached.
    """
    dtype = dtype or video_unet.dtype
    if isinstance(config, TuningConfig):
        objective = objective or config.objective
        num_frames = config.frames_at_once(num_frames)
    size = num_clips, num_frames, height, width
    key = (_architecture(video_unet), _options(config), objective, *size, dtype, *map(_sizes, controls))
    if key not in _estimates:
        _estimates[key] = _dry_run(video_unet, config, objective, size, dtype, controls)
    return _estimates[key]


def _dry_run(
    video_unet: VideoUNet,
    config: TuningConfig | SamplingConfig,
    objective: Objective | None,
    size: tuple[int, int, int, int],
    dtype: torch.dtype,
    controls: Sequence[HintControl],
) -> MemoryEstimate:
    trained = trainable_parameters(video_unet)
    num_clips, *of_clip = size
    batch = 1 if isinstance(config, TuningConfig) and config.clips_in_turn else num_clips
    with torch.inference_mode(False), torch.enable_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        step = _Step(video_unet, config, objective, tuple(control.empty(of_clip[0]) for control in controls), num_clips)
        state = _without_storage(video_unet, {id(parameter) for parameter in trained.values()}, dtype)
        latents = torch.empty(batch, video_unet.unet.config.in_channels, *of_clip)
        text = torch.empty(batch, TEXT_TOKENS, video_unet.text_width)
        added = {name: torch.empty(batch, wide) for name, wide in added_widths(video_unet.unet.config).items()}
        with MemoryTracker() as tracker:
            torch.func.functional_call(step, state, (latents, text, added))
    beside = list(step.spatial.parameters().values()) if step.spatial else []
    moments = 2 * sum(parameter.numel() for parameter in (*trained.values(), *beside)) * torch.float32.itemsize
    return MemoryEstimate(
        weights=sum(tensor.nbytes for tensor in (*state.values(), *beside, *_tensors(controls))),
        moments=moments if isinstance(config, TuningConfig) else 0,
        activations=tracker.peak,
        flops=step.scale_to_all_passes(tracker.flops),
    )


def _architecture(video_unet: VideoUNet) -> str:
    """A digest of the model's modules with their sizes, and of options that their printed form lacks."""
    attention = [(block.attention, block.temporal_positions) for block in video_unet.blocks.values()]
    options = attention, video_unet.adapter.names
    return hashlib.sha256(repr((video_unet, dict(video_unet.unet.config), options)).encode()).hexdigest()


def _tensors(controls: Sequence[HintControl]) -> list[Tensor]:
    return [tensor for control in controls for tensor in control.tensors().values()]


def _sizes(control: HintControl) -> tuple:
    """Names, shapes and types of a control's tensors, by which two of one size are the same here."""
    return tuple((name, tensor.shape, tensor.dtype) for name, tensor in control.tensors().items())


def _options(config: TuningConfig | SamplingConfig) -> tuple:
    """The settings that change a step's size."""
    if isinstance(config, TuningConfig):
        passes = config.gradient_accumulation_steps
        return "tuning", config.gradient_checkpointing, config.compute_dtype, passes, config.clips_in_turn
    return "sampling", config.guided, config.guidance_rescale == 0, replaced_kinds(config)


def frames_that_fit(
    video_unet: VideoUNet, config: TuningConfig | SamplingConfig, memory: float, *, num_frames: int, **size: Any
) -> int:
    """The most frames, up to `num_frames`, whose peak is within `memory` bytes; 0 if one frame is too many.

    Arguments:
        size: height, width, dtype, objective and controls as `estimate_memory` takes them.
    """

    def too_large(frames: int) -> bool:
        return estimate_memory(video_unet, config, num_frames=frames, **size).peak > memory

    for frames in reversed(_growing(config, num_frames, size["height"] * size["width"])):
        if fitting := bisect_left(frames, True, key=too_large):
            return frames[fitting - 1]
    return 0


def _growing(config: TuningConfig | SamplingConfig, num_frames: int, pixels: int) -> list[range]:
    """Ranges of frames in which the peak grows; between them it falls, where guidance begins to take two passes."""
    together = ONE_BATCH_PIXELS // pixels if isinstance(config, SamplingConfig) and config.guided else num_frames
    return [range(1, min(together, num_frames) + 1), range(together + 1, num_frames + 1)]


def _without_storage(video_unet: VideoUNet, trained: set[int], dtype: torch.dtype) -> dict[str, Tensor]:
    """Empty tensors in place of all weights, by their names in a `_Step`. Those that train are given by identity."""
    return {
        f"video_unet.unet.{name}": torch.empty(
            parameter.shape,
            dtype=torch.float32 if id(parameter) in trained else dtype,
            requires_grad=id(parameter) in trained,
        )
        for name, parameter in video_unet.unet.named_parameters()
    }


class _Step(nn.Module):
    """One step, as a module, so that `functional_call` replaces the weights during the backward pass too."""

    def __init__(
        self,
        video_unet: VideoUNet,
        config: TuningConfig | SamplingConfig,
        objective: Objective | None,
        controls: tuple[HintControl, ...] = (),
        num_clips: int = 1,
    ):
        super().__init__()
        self.video_unet, self.config, self.controls = video_unet, config, controls
        self.objective = copy.copy(objective)  # what it would keep has no storage
        self.spatial = companion_of(objective, video_unet, num_clips, seed=0, device=torch.device("cpu"))
        self._passes = config.gradient_accumulation_steps if isinstance(config, TuningConfig) else 1
        self._run = min(2, self._passes)  # the second adds to the first's gradients, as all others do
        self._schedule = NoiseSchedule(torch.empty(TIMESTEP + 1, dtype=torch.float64), "v_prediction")

    def scale_to_all_passes(self, flops: int) -> int:
        """The operations of all passes of an update, from those of the passes that are run."""
        return flops * self._passes // self._run

    def forward(self, latents: Tensor, text: Tensor, added: dict[str, Tensor]) -> None:
        context = self.video_unet.context
        before = context.checkpointing
        denoiser = UNetDenoiser(self.video_unet, self._schedule, Conditioning(text, self.controls, added))
        try:
            if isinstance(self.config, TuningConfig):
                self._tune(replace(denoiser, compute_dtype=self.config.compute_dtype), latents, self.config)
            else:
                _sample(denoiser, latents, self.config)
        finally:
            context.checkpointing = before

    def _tune(self, denoiser: UNetDenoiser, latents: Tensor, config: TuningConfig) -> None:
        self.video_unet.context.checkpointing = config.gradient_checkpointing
        for _ in range(self._run):
            timesteps = torch.full(latents.shape[:1], TIMESTEP)
            draw = Draw(torch.empty_like(latents), timesteps, None, list(range(len(latents))))
            assert self.objective is not None, "estimate_memory takes that of the config"
            for loss in losses(denoiser, latents, self.objective, draw, self.spatial):
                loss.backward()


def _sample(denoiser: UNetDenoiser, latents: Tensor, config: SamplingConfig) -> None:
    positive: Denoiser = denoiser
    with torch.no_grad():
        if kinds := replaced_kinds(config):  # the clip's pass, whose queries and keys the edit's pass takes
            attention = PromptToPrompt(kinds=kinds)
            Controlled(denoiser, attention.keep)(latents, TIMESTEP)
            positive = Controlled(denoiser, attention.put)
        guided = CFG(positive, denoiser, 2.0, config.guidance_rescale)  # any scale but 1
        (guided if config.guided else positive)(latents, TIMESTEP)
