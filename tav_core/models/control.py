"""ControlNets (Zhang et al., arXiv:2302.05543) and T2I-Adapters (Mou et al., arXiv:2302.08453) that steer an edit.

    control = HintControl(load_control("sd-controlnet-depth"), hints, scale=0.8, end=0.7)
    editor = ClipEditor(model, frames, caption, controls=[control])

Every frame has a hint of its own: its depth, its edges, its pose. The network sees the frames as a batch of images, and
what it adds enters the UNet as in diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, T2IAdapter
from torch import Tensor, nn

from ..checks import check_device, check_number, check_path, check_range, check_tensor, check_type
from ..conditioning import Residuals
from .base import ASSETS, REASON_LENGTH, read_diffusers
from .folder import ModelError, check_network

KINDS = {kind.__name__: kind for kind in (ControlNetModel, T2IAdapter)}
NUM_TIMESTEPS = 1000  # of Stable Diffusion
MAX_SCALE = 10
DEMO_CONTROLS = ("demo-depth", "demo-pose", "demo-canny")  # of the bundled model
PIXELS_PER_LATENT = 8


def load_control(
    path: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ControlNetModel | T2IAdapter:
    """Load a ControlNet or a T2I-Adapter from a local folder in diffusers' layout.

    Arguments:
        path: a folder with config.json and .safetensors weights, or a name of DEMO_CONTROLS.
        device, dtype: of the network.

    Returns:
        The network, in evaluation mode, with no parameter requiring a gradient.

    Raises:
        ModelError: if the folder is missing, incomplete or unreadable, or holds another kind of network.
    """
    folder = ASSETS / str(path) if path in DEMO_CONTROLS else check_path(path, ModelError)
    check_device(torch.device(device))
    if not folder.is_dir():
        raise ModelError(f"There is no ControlNet at {folder}. Give a local folder in diffusers' layout.")
    try:
        config = check_network(folder)
        kind = KINDS.get(config.get("_class_name", ""))
        network = None if kind is None else read_diffusers(kind, folder, config, dtype)
    except Exception as error:  # diffusers raises types of its own; all mean that it cannot be read
        reason = " ".join(str(error).split())[:REASON_LENGTH].rstrip(". ")
        raise ModelError(
            f"The control in {folder} cannot be read: {reason}. Copy it again, or save it once more with "
            "save_pretrained(safe_serialization=True)."
        ) from error
    if network is None:
        raise ModelError(
            f"{folder} holds a {config.get('_class_name', 'network of no name')}, which cannot steer an edit: give the "
            f"folder of a {' or a '.join(KINDS)}."
        )
    return network.to(device).eval().requires_grad_(False)


@dataclass(eq=False)
class HintControl:
    """A ControlNet or a T2I-Adapter with a hint for each frame. A `Control`; do not change it afterwards.

    Attributes:
        network: what `load_control` returned.
        hint: (f, height, width, 3) in [0, 1], of the clip's size; or one frame, (1, height, width, 3), for all.
        scale: factor of what the network adds, in [0, 10].
        start, end: the share of the noise, in [0, 1], after whose removal the control begins and ends to act; 0 and 1
            for all of it. Timestep t is at the share 1 - t / 999, as in ComfyUI; diffusers counts steps.
        frame_scales: one factor more for each frame, (f,); None for 1.

    Raises:
        TypeError, ValueError: if one of them is something else.
    """

    network: ControlNetModel | T2IAdapter
    hint: Tensor
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    frame_scales: Tensor | Sequence[float] | None = None
    _kept: list[Tensor] = field(default_factory=list, repr=False)  # by `_prepared`

    def __post_init__(self) -> None:
        check_type("network", self.network, nn.Module, "load one with load_control()")
        if type(self.network).__name__ not in KINDS:
            raise TypeError(f"network must be a {' or a '.join(KINDS)}, not a {type(self.network).__name__}.")
        check_tensor("hint", self.hint)
        if self.hint.ndim != 4 or self.hint.shape[3] != 3:
            raise ValueError(f"A hint is (frames, height, width, 3), got {tuple(self.hint.shape)}.")
        check_range("hint", self.hint, 0, 1)
        check_number("scale", self.scale, 0, MAX_SCALE)
        check_number("start", self.start, 0, 1)
        check_number("end", self.end, 0, 1)
        if self.start >= self.end:
            raise ValueError(f"The control ends at {self.end} before it starts at {self.start}: give a larger end.")
        if self.frame_scales is not None:
            self.frame_scales = torch.as_tensor(self.frame_scales, dtype=torch.float32)
            self._check_frame_scales(self.frame_scales)

    def _check_frame_scales(self, scales: Tensor) -> None:
        frames = len(self.hint)
        if scales.ndim != 1 or frames not in (1, len(scales)):
            raise ValueError(f"frame_scales is a number for each of the {frames} hints, got {tuple(scales.shape)}.")
        if not ((scales >= 0) & (scales <= MAX_SCALE)).all():  # NaN is neither
            raise ValueError(f"frame_scales must lie in [0, {MAX_SCALE}].")

    def check(self, latents: Tensor, unet_config: Mapping[str, Any]) -> None:
        """See `Control`."""
        config, frames = self.network.config, latents.shape[2]
        given = len(self.hint if self.frame_scales is None else self.frame_scales)
        if given != frames and not (given == 1 and self.frame_scales is None):
            raise ValueError(f"The control has hints for {given} frames, the clip has {frames}: give one for each.")
        size = tuple(PIXELS_PER_LATENT * side for side in latents.shape[-2:])
        if tuple(self.hint.shape[1:3]) != size:
            raise ValueError(
                "The hint is {} x {} pixels, the clip {} x {} (height x width): resize it.".format(
                    *self.hint.shape[1:3], *size
                )
            )
        keys = ("block_out_channels", "cross_attention_dim", "in_channels")
        theirs = {"block_out_channels": config.channels} if self._adapts else {key: config[key] for key in keys}
        for key, value in theirs.items():
            if _plain(value) != _plain(unet_config[key]):
                raise ValueError(
                    f"The control has {key} {_plain(value)}, the model {_plain(unet_config[key])}: use one that was "
                    "made for this family of models."
                )
        if config.get("addition_embed_type") is not None:
            raise ValueError("The control is one of SDXL: use one that was made for this family of models.")

    def residuals(self, x_t: Tensor, t: Tensor, text: Tensor) -> Residuals:
        """See `Control`."""
        batch, _, frames = x_t.shape[:3]
        factors = self._factors(t, frames)
        if (self.start, self.end) != (0, 1) and not factors.any():
            return {}
        given = [_repeated(each, batch, frames) for each in self._prepared(x_t.device)]
        if self._adapts:
            return {"down_intrablock_additional_residuals": _scaled(given, factors, x_t)}
        images = x_t.transpose(1, 2).flatten(0, 1).to(self.network.dtype)
        down, middle = self.network(
            images,
            t.repeat_interleave(frames),
            text.to(images.dtype).repeat_interleave(frames, dim=0),
            given[0],
            return_dict=False,
        )
        middle = _scaled([middle], factors, x_t)[0]
        return {"down_block_additional_residuals": _scaled(down, factors, x_t), "mid_block_additional_residual": middle}

    def settings(self) -> Mapping[str, Any]:
        """See `Control`."""
        return {"network": type(self.network).__name__, "scale": self.scale, "start": self.start, "end": self.end}

    def tensors(self) -> Mapping[str, Tensor]:
        """See `Control`."""
        own = {"hint": self.hint} | ({} if self.frame_scales is None else {"frame_scales": self._frame_factors()})
        return own | {f"network.{name}": weight for name, weight in self.network.state_dict().items()}

    def of_frames(self, frames: Sequence[int]) -> HintControl:
        """See `Control`."""
        cut = copy(self)
        cut.hint = self.hint if len(self.hint) == 1 else self.hint[list(frames)]
        cut.frame_scales = None if self.frame_scales is None else self._frame_factors()[list(frames)]
        cut._kept = []
        return cut

    def empty(self, num_frames: int) -> HintControl:
        """One of the same size for clips of so many frames, on tensors made anew, that acts at all timesteps.

        Memory is planned with it, on tensors that have no storage.
        """
        network: Any = type(self.network).from_config(self.network.config)
        for module in network.modules():
            for name, weight in module._parameters.items():  # Module.to() cannot exchange tensors without storage
                if weight is not None:
                    empty = torch.empty(weight.shape, dtype=self.network.dtype)
                    module._parameters[name] = nn.Parameter(empty, requires_grad=False)
        planned = copy(self)  # a new one would be checked, and a tensor without storage has no values
        planned.network, planned.hint = network.eval(), torch.empty(num_frames, *self.hint.shape[1:])
        planned.start, planned.end, planned.frame_scales, planned._kept = 0.0, 1.0, None, []
        return planned

    @property
    def _adapts(self) -> bool:
        return isinstance(self.network, T2IAdapter)

    def _frame_factors(self) -> Tensor:
        return torch.as_tensor(1.0 if self.frame_scales is None else self.frame_scales)

    def _factors(self, t: Tensor, frames: int) -> Tensor:
        """The factor of each frame of each clip, (b f,) float32: the scale where the control acts, or 0."""
        last = NUM_TIMESTEPS - 1
        acts = (t <= (1 - self.start) * last) & (t >= (1 - self.end) * last)
        of_frames = (self.scale * self._frame_factors()).to(t.device).expand(frames)
        return (acts[:, None] * of_frames).flatten()

    def _prepared(self, device: torch.device) -> list[Tensor]:
        """What no timestep changes: the hint of a ControlNet, or the features of a T2I-Adapter, (f, c, h, w) each."""
        if not self._kept or self._kept[0].device != device:
            pixels = self.hint.permute(0, 3, 1, 2).to(device, self.network.dtype)
            if self._adapts and self.network.config.in_channels == 1:  # of edges and sketches, which are grey
                pixels = pixels.mean(1, keepdim=True)
            self._kept = list(self.network(pixels)) if self._adapts else [pixels]
        return self._kept


def _repeated(images: Tensor, batch: int, frames: int) -> Tensor:
    """(f, ...) or (1, ...) -> (b f, ...)."""
    return images.expand(frames, *images.shape[1:]).repeat(batch, *(1 for _ in images.shape[1:]))


def _scaled(residuals: Sequence[Tensor], factors: Tensor, like: Tensor) -> list[Tensor]:
    factors = factors[:, None, None, None]
    return [residual * factors.to(like.device, residual.dtype) for residual in residuals]


def _plain(value: Any) -> Any:
    """A value of a configuration as it compares: numbers in a list."""
    return list(value) if isinstance(value, (list, tuple)) else value
