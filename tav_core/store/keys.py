"""Under which key a result is kept: a digest of everything that decides it.

That is: every weight of the model as it is before the run, how it was inflated, the clip, the text, the noise levels,
the knobs, the kind of device and the versions of what computes. Weights and tensors count by their bytes, so a LoRA
that was fused upstream, or another precision, makes another key. Left out is what changes rounding at most: gradient
checkpointing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from numbers import Integral, Real
from typing import Any
from weakref import WeakKeyDictionary

import diffusers
import torch
from torch import Tensor

from ..conditioning import Conditioning, as_conditioning
from ..diffusion.schedule import NoiseSchedule
from ..editing.inversion import InversionConfig
from ..tuning.config import TuningConfig
from ..unet.modules import ClipGroupNorm
from ..unet.video_unet import VideoUNet, trainable_parameters
from .files import digest

ALGORITHM = 2  # to be raised when the same inputs come to other bits
CHANGES_ROUNDING = {"gradient_checkpointing"}

# The frozen weights are most of a model: 3.4 GB take seconds. They count as unchanged while the same tensors stand in
# the model, torch counts no write to them, and their bits add up to the same, which a write through `.data` changes.
_frozen_digests: WeakKeyDictionary[VideoUNet, tuple[list[tuple[str, int, int, int]], str]] = WeakKeyDictionary()


def result_key(
    video_unet: VideoUNet,
    latents: Tensor,
    encoder_hidden_states: Tensor | Conditioning,
    scheduler: Any,
    config: TuningConfig | InversionConfig,
) -> str:
    """The key of a tuning, or of an inversion, that is about to be run.

    Arguments:
        video_unet: with the weights from which the run starts.
        latents, encoder_hidden_states, scheduler, config: as `tune` or `invert` takes them.

    Returns:
        32 hexadecimal digits.
    """
    schedule = NoiseSchedule.from_scheduler(scheduler)
    text = as_conditioning(encoder_hidden_states).text
    given = {"latents": latents, "text": text, "alphas_cumprod": schedule.alphas_cumprod}
    parts = {
        "run": type(config).__name__,
        "config": {name: value for name, value in asdict(config).items() if name not in CHANGES_ROUNDING},
        "inputs": digest(given),
        "prediction_type": schedule.prediction_type,
        "model": _model_parts(video_unet),
        "frozen": _frozen_digest(video_unet),
        "trained": digest(trainable_parameters(video_unet)),
        "device": video_unet.device.type,
        "versions": [ALGORITHM, torch.__version__, diffusers.__version__],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


def _model_parts(video_unet: VideoUNet) -> dict[str, Any]:
    """What the weights do not tell: the UNet's config, without the names that diffusers adds, and the inflation's."""
    norms = [name for name, module in video_unet.named_modules() if isinstance(module, ClipGroupNorm)]
    attention = {name: block.attention for name, block in video_unet.blocks.items()}
    config = {name: value for name, value in video_unet.unet.config.items() if not name.startswith("_")}
    parts = {"config": config, "clip_norms": norms, "attention": attention}
    return parts | ({"temporal_positions": True} if video_unet.temporal_positions else {})


def _frozen_digest(video_unet: VideoUNet) -> str:
    trained = trainable_parameters(video_unet)
    # keep_vars: parameters themselves and not new tensors on them, which would have other identities at each call.
    state: Mapping[str, Tensor] = video_unet.unet.state_dict(keep_vars=True)
    frozen = {name: tensor for name, tensor in state.items() if name not in trained}
    if any(tensor.is_inference() for tensor in frozen.values()):  # torch counts no writes to these
        return digest(frozen)
    marks = [(name, id(tensor), tensor._version, _sum_of_bits(tensor)) for name, tensor in frozen.items()]
    if video_unet not in _frozen_digests or _frozen_digests[video_unet][0] != marks:
        _frozen_digests[video_unet] = (marks, digest(frozen))
    return _frozen_digests[video_unet][1]


def _sum_of_bits(tensor: Tensor) -> int:
    """The bytes of a tensor, eight at a time, added up as whole numbers: at the speed of memory, without a copy."""
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if data.storage_offset() % 8:
        data = data.clone()
    whole = len(data) // 8 * 8
    return int(data[:whole].view(torch.int64).sum()) + int(data[whole:].sum())


def _plain(value: object) -> str | int | float:
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, Real):  # of numpy
        return int(value) if isinstance(value, Integral) else float(value)
    raise TypeError(f"A key is made of plain values, got {type(value).__name__}.")
