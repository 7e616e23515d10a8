"""The key under which a result is stored: a digest of everything that determines it.

These are all weights of the model before the run, the options of its inflation, the clip, the texts, the noise levels,
the settings, the kind of device, and the versions of the libraries that compute. Weights and tensors count by their
bytes, so that a LoRA in the model, or another precision, makes another key. Gradient checkpointing, which changes
rounding at most, does not count. A model with hooks or code of its own needs a tag that names the change.

Settings count only where they differ from `NEUTRAL`, so that a new option leaves the keys of earlier results as they
are. A default may change freely: `NEUTRAL` does not follow it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from numbers import Integral, Real
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary

import diffusers
import torch
from torch import Tensor

from ..conditioning import Conditioning, Control, as_conditioning
from ..diffusion.schedule import NoiseSchedule
from ..editing.config import InversionConfig, SamplingConfig
from ..tuning.config import TuningConfig
from ..tuning.objective import AppearanceDebiased, NoisePrediction
from ..unet.adapters import Adapter
from ..unet.modules import ClipGroupNorm, ClipResnet
from ..unet.refused import is_refusal
from ..unet.video_unet import VideoUNet, plain_module, trainable_parameters
from .files import digest

ALGORITHM = 2  # to be raised when the same inputs give other bits
CHANGES_ROUNDING = {"gradient_checkpointing"}
LIBRARIES = ("torch.", "diffusers.", "peft.")  # whose modules compute what their weights and configs say

# For each setting the value at which a key leaves it out. Part of the meaning of all stored keys: never change a value.
# For a new setting add the value that computes what was computed before there was the setting, usually its default.
NEUTRAL: dict[str, dict[str, Any]] = {
    "TuningConfig": {
        "steps": 500,
        "learning_rate": 3e-5,
        "lr_schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 1e-2,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "max_grad_norm": 1.0,
        "gradient_accumulation_steps": 1,
        "seed": 0,
        "timestep_range": 1.0,
        "min_snr_gamma": None,
        "loss": "published",
        "clips_in_turn": False,
        "context_length": None,
        "compute_dtype": None,
    },
    "InversionConfig": {"num_inference_steps": 50, "refinements": 0, "tolerance": 1e-5},
    "SamplingConfig": {
        "num_inference_steps": 50,
        "guidance_scale": 12.5,
        "eta": 0.0,
        "seed": 0,
        "guidance_rescale": 0.0,
        "denoise": 1.0,
        "high_noise_guidance_scale": None,
        "source_guidance_scale": None,
        "cross_replace_steps": 0.0,
        "self_replace_steps": 0.0,
        "guide_from_caption": False,
        "propagate": True,
    },
    "SpatioTemporalBlock": {"attention": "sparse_causal", "temporal_positions": False, "temporal": True},
}

Config: TypeAlias = TuningConfig | InversionConfig | SamplingConfig

# The frozen weights are most of a model: 3.4 GB take seconds. Their digest is reused while the model holds the same
# tensors, torch counts no write to them, and their sums of bits are the same, which a write through `.data` changes.
_control_digests: WeakKeyDictionary[Control, str] = WeakKeyDictionary()
_frozen_digests: WeakKeyDictionary[VideoUNet, tuple[list[tuple[str, int, int, int]], str]] = WeakKeyDictionary()


def result_key(
    video_unet: VideoUNet,
    latents: Tensor,
    encoder_hidden_states: Tensor | Conditioning,
    scheduler: Any,
    config: Config,
    tag: str = "",
    given: Mapping[str, Any] | None = None,
    more: Mapping[str, Tensor] | None = None,
) -> str:
    """The key of a tuning, an inversion or a source branch that is about to run.

    Arguments:
        video_unet: with the weights from which the run starts.
        latents, encoder_hidden_states, scheduler, config: as `tune` or `invert` takes them.
        tag: names a change of the model that its weights and options do not show.
        given: the other arguments of `tune`: parameters, objective, noise and timesteps.
        more: tensors that the result depends on beside, by name.

    Returns:
        32 hexadecimal digits.
    """
    video_unet, given = plain_module(video_unet), given or {}
    objective = given.get("objective") or getattr(config, "objective", None)
    if not tag and (changed := change_of(video_unet, objective)):
        raise ValueError(
            f"The model has {changed}: its results cannot be told from the plain model's. Name the change, "
            'Store(folder, tag="my change"), or run without a store.'
        )
    schedule = NoiseSchedule.from_scheduler(scheduler)
    conditioning = as_conditioning(encoder_hidden_states)
    inputs = {"latents": latents, **conditioning.tensors(), "alphas_cumprod": schedule.alphas_cumprod, **_draws(given)}
    inputs |= more or {}
    parts = {
        "run": type(config).__name__,
        "config": _settings(config),
        "inputs": digest(inputs),
        "prediction_type": schedule.prediction_type,
        "model": _model_parts(video_unet),
        "frozen": _frozen_digest(video_unet),
        "trained": digest(trainable_parameters(video_unet)),
        "device": video_unet.device.type,
        "versions": [ALGORITHM, torch.__version__, diffusers.__version__],
    }
    parts |= ({"tag": tag} if tag else {}) | _given_parts(video_unet, config, given)
    if conditioning.controls:
        parts["controls"] = [_control_digest(control) for control in conditioning.controls]
    if not isinstance(config, TuningConfig) and schedule.timestep_spacing != "leading":
        parts["timestep_spacing"] = schedule.timestep_spacing
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


def _control_digest(control: Control) -> str:
    """Of a control, which does not change, and whose weights take a second."""
    if control not in _control_digests:
        settings = json.dumps(dict(control.settings()), sort_keys=True, default=_plain)
        _control_digests[control] = f"{settings} {digest(control.tensors())}"
    return _control_digests[control]


def _draws(given: Mapping[str, Any]) -> dict[str, Tensor]:
    """Noise and timesteps that the caller gave, by name."""
    draws = {kind: given[kind] for kind in ("noise", "timesteps") if given.get(kind) is not None}
    return {f"{kind}.{i}": torch.as_tensor(value) for kind, values in draws.items() for i, value in enumerate(values)}


def _given_parts(video_unet: VideoUNet, config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Where a tuning differs from one that is given a config alone: the weights it trains, and its loss."""
    parts: dict[str, Any] = {}
    if given.get("parameters", video_unet.adapter.names) != video_unet.adapter.names:
        parts["parameters"] = given["parameters"]
    objective = given.get("objective")
    if objective is not None and objective != getattr(config, "objective", None):
        kind = objective if isinstance(objective, type(_given_parts)) else type(objective)
        parts["objective"] = f"{kind.__module__}.{kind.__qualname__}"
        if is_dataclass(objective):
            parts["objective"] = [parts["objective"], asdict(cast(Any, objective))]
    return parts


def change_of(video_unet: VideoUNet, objective: Any = None) -> str:
    """The first thing that changes a result and is no weight and no option; empty for a plain model."""
    return next(_changes(plain_module(video_unet), objective), "")


def _changes(video_unet: VideoUNet, objective: Any = None) -> Iterator[str]:
    """What changes a result and is no weight and no option."""
    if objective is not None and type(objective) not in (NoisePrediction, AppearanceDebiased):
        yield f"an objective of its own ({getattr(objective, '__name__', type(objective).__name__)})"
    if video_unet.context.control is not None:
        yield "an attention control"
    if type(video_unet.adapter) is not Adapter:
        yield f"an adapter of its own ({type(video_unet.adapter).__name__})"
    known = (*LIBRARIES, __name__.removesuffix("store.keys"))
    for name, module in video_unet.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        if any(hooks):
            yield f"a hook on {name or 'itself'}"
        overridden = (method for method in vars(module) if callable(getattr(type(module), method, None)))
        if own := [method for method in overridden if not is_refusal(vars(module)[method])]:
            yield f"a method of its own ({name}.{own[0]})"
        if not type(module).__module__.startswith(known):
            yield f"a module of its own ({name}, {type(module).__name__})"


def _settings(config: Config) -> dict[str, Any]:
    """The settings that differ from their neutral values."""
    own = {field.name: field.default for field in fields(config) if field.default is not MISSING}
    neutral = own | NEUTRAL.get(type(config).__name__, {})
    values = {name: value for name, value in asdict(config).items() if name not in CHANGES_ROUNDING}
    return {name: value for name, value in values.items() if name not in neutral or _differ(value, neutral[name])}


def _differ(value: Any, neutral: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return list(value) != list(neutral)
    return bool(value != neutral)


def _model_parts(video_unet: VideoUNet) -> dict[str, Any]:
    """What the weights do not show: the UNet's config, without the names that diffusers adds, and the inflation's."""
    config = {name: value for name, value in video_unet.unet.config.items() if not name.startswith("_")}
    resnets = {name: module for name, module in video_unet.named_modules() if isinstance(module, ClipResnet)}
    frame_norms = [name for name, module in resnets.items() if not isinstance(module.norm1, ClipGroupNorm)]
    parts = {"config": config} | ({"frame_norms": frame_norms} if frame_norms else {})
    for option, neutral in NEUTRAL["SpatioTemporalBlock"].items():
        values = {name: getattr(block, option) for name, block in video_unet.blocks.items()}
        if changed := {name: value for name, value in values.items() if value != neutral}:
            parts[option] = changed
    return parts


def _frozen_digest(video_unet: VideoUNet) -> str:
    trained = {id(parameter) for parameter in trainable_parameters(video_unet).values()}
    # keep_vars: parameters themselves and not new tensors on them, which would have other identities at each call.
    state: Mapping[str, Tensor] = video_unet.unet.state_dict(keep_vars=True)
    frozen = {name: tensor for name, tensor in state.items() if id(tensor) not in trained}
    if any(tensor.is_inference() for tensor in frozen.values()):  # of these torch counts no writes
        return digest(frozen)
    marks = weight_marks(frozen)
    if video_unet not in _frozen_digests or _frozen_digests[video_unet][0] != marks:
        _frozen_digests[video_unet] = (marks, digest(frozen))
    return _frozen_digests[video_unet][1]


def weight_marks(weights: Mapping[str, Tensor]) -> list[tuple[str, int, int, int]]:
    """Equal as long as no weight is replaced or written to, at the speed of memory. Not of inference tensors."""
    return [(name, id(tensor), tensor._version, _sum_of_bits(tensor)) for name, tensor in weights.items()]


def _sum_of_bits(tensor: Tensor) -> int:
    """The sum of a tensor's bytes as 64-bit integers: at the speed of memory, without a copy."""
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if data.storage_offset() % 8:
        data = data.clone()
    whole = len(data) // 8 * 8
    return int(data[:whole].view(torch.int64).sum()) + int(data[whole:].sum())


def _plain(value: object) -> str | int | float:
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, Real):  # NumPy's
        return int(value) if isinstance(value, Integral) else float(value)
    raise TypeError(f"Settings in a key must be plain values, not {type(value).__name__}.")
