"""TAV_MODEL: a small immutable handle on an inflated UNet that lives in the host's memory management.

Handles may share one module and differ in the tuned weights that belong in it. `loaded` applies the weights of a handle
before it runs, so that the result does not depend on what ran before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import comfy.model_management as host
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...tav_core.presets import PUBLISHED, Preset
from .control import controls_of, models_of, running
from .memory import advice, planned, warn_if_too_large
from .progress import raise_if_interrupted

if TYPE_CHECKING:
    from ...tav_core import Conditioning, NoiseSchedule, SamplingConfig, TuningConfig, VideoUNet


class Holder(nn.Module):
    """The module that the host moves. The host sets its `device`, which is read-only on a VideoUNet."""

    def __init__(self, video_unet: VideoUNet):
        super().__init__()
        self.video_unet = video_unet
        self.device = None


class WholePatcher(ModelPatcher):
    """The host's plain patcher, which loads all of a model, whatever memory the host reports.

    The host can load its own layers in parts. It would leave all other layers on the CPU, without a warning.
    """

    def load(
        self,
        device_to: Any = None,
        lowvram_model_memory: float = 0,
        force_patch_weights: bool = False,
        full_load: bool = False,
    ) -> Any:
        return super().load(device_to, force_patch_weights=force_patch_weights, full_load=True)

    def partially_load(self, device_to: Any, extra_memory: float = 0, force_patch_weights: bool = False) -> Any:
        # Below 0 the host would unload parts instead of loading.
        return super().partially_load(device_to, max(0, extra_memory), force_patch_weights)


class TrainablePatcher(WholePatcher):
    """Moves weights outside of inference mode: weights moved within it would never train."""

    @torch.inference_mode(False)
    def load(self, *args: Any, **kwargs: Any) -> Any:
        return super().load(*args, **kwargs)

    @torch.inference_mode(False)
    def unpatch_model(self, *args: Any, **kwargs: Any) -> Any:
        return super().unpatch_model(*args, **kwargs)

    @torch.inference_mode(False)
    def partially_unload(self, *args: Any, **kwargs: Any) -> Any:
        return super().partially_unload(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class TavModel:
    """What a TAV_MODEL socket carries.

    Attributes:
        patcher: holds the inflated UNet; shared by all handles that came from one inflation.
        schedule: noise levels and prediction type of the base model.
        scale: latents of the host times this are what the model takes.
        tuned: the tuned weights that belong in it, by name, on the CPU; None for the untuned model.
        strength: of the tuning, see `tav_core/unet/adapters.py`.
        notes: metadata for a file of the weights.
        preset: the settings for the base model.
        latent_format: the host's, for quick previews.
        weights: a name of the tuned weights, for as long as the host runs; other weights have another.
    """

    patcher: TrainablePatcher
    schedule: NoiseSchedule
    scale: float
    tuned: Mapping[str, Tensor] | None = None
    strength: float = 1.0
    notes: Mapping[str, str] = field(default_factory=dict)
    preset: Preset = PUBLISHED
    latent_format: Any = None
    weights: str = field(default_factory=lambda: uuid4().hex)

    @property
    def video_unet(self) -> VideoUNet:
        return self.patcher.model.video_unet

    def apply_weights(self, strength: float | None = None) -> None:
        """Load the weights of this handle into the shared module, at another strength if one is given."""
        if self.tuned is None:
            self.video_unet.reset()
        else:
            self.video_unet.adapter.load(self.tuned, self.strength if strength is None else strength)

    def load(self, clip: Tensor, config: TuningConfig | SamplingConfig, *prompts: Tensor | Conditioning | None) -> None:
        """Load the module and its ControlNets onto the host's device; leave free what a step on these latents takes."""
        with torch.inference_mode(False):
            memory = planned(self.video_unet, clip, config).without_weights
            models = [self.patcher, *models_of(controls_of(*prompts))]
            host.load_models_gpu(models, memory_required=memory, force_full_load=True)

    def sampled_by(self, sampler: str) -> TavModel:
        """The same model at the timesteps of a sampler, by its name in the core."""
        from ...tav_core.editing.samplers import schedule_of

        return replace(self, schedule=schedule_of(sampler, self.schedule))

    def with_current_weights(self, notes: Mapping[str, str], strength: float = 1.0) -> TavModel:
        """A new handle on the weights that are in the module now."""
        tuned = self.video_unet.adapter.state_dict()
        return replace(self, tuned=tuned, strength=strength, notes=dict(notes), weights=uuid4().hex)


def compute_dtype(model: Any, precision: str) -> torch.dtype:
    """The type of the inflated UNet's frozen weights: as set, or the one in which the host would run MODEL.

    Float32 where the host's choice cannot be tuned in: on a CPU it is slower, and float16 needs its loss scaled.
    """
    from ...tav_core.tuning.tune import LOSS_SCALING_DEVICES

    if precision != "auto":
        return getattr(torch, precision)
    dtype = model.model.get_dtype_inference()
    device = host.get_torch_device()
    scaled = dtype == torch.float16 and device.type in LOSS_SCALING_DEVICES
    unscaled = dtype == torch.bfloat16 and not host.is_device_cpu(device)
    return dtype if scaled or unscaled else torch.float32


def hold(video_unet: VideoUNet, schedule: NoiseSchedule, model: Any) -> TavModel:
    """Wrap an inflated UNet for the host's memory management.

    Arguments:
        model: the host's MODEL that it came from, for the scale of its latents and the preset of its family.
    """
    patcher = TrainablePatcher(Holder(video_unet), host.get_torch_device(), host.unet_offload_device())
    latent_format = model.model.latent_format
    known = dict(preset=getattr(model.model.model_config, "preset", PUBLISHED), latent_format=latent_format)
    return TavModel(patcher, schedule, float(latent_format.scale_factor), **known)


@contextmanager
def loaded(
    model: TavModel, clip: Tensor, config: TuningConfig | SamplingConfig, *prompts: Tensor | Conditioning | None
) -> Iterator[VideoUNet]:
    """Load the model and its weights onto the device, out of inference mode. Stop ends the node before a forward pass.

    Arguments:
        clip: the latents it will run on, for the estimate of memory.
        config: what it will do with them, likewise.
        prompts: under which it will run, for the ControlNets that they carry.

    Raises:
        The host's out-of-memory error, after which it unloads all models, with advice for the size of the clip.
    """
    from ...tav_core.memory.budget import ran_out_of_memory

    with torch.inference_mode(False):
        model.video_unet.before_call = raise_if_interrupted
        controls = controls_of(*prompts)
        try:
            for control in controls:
                control.check(clip, model.video_unet.unet.config)
            warn_if_too_large(model.video_unet, clip, config)
            model.load(clip, config, *prompts)
            model.apply_weights()
            with running(controls):
                yield model.video_unet
        except Exception as error:
            if host.is_oom(error) or ran_out_of_memory(error):
                raise host.OOM_EXCEPTION(advice(model.video_unet, clip, config)) from error
            raise
        finally:
            model.video_unet.before_call = None
