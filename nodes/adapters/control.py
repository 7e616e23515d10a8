"""CONDITIONING that carries ControlNets or T2I-Adapters: the host's control objects as a `Control` of the core.

They run as they are. What stands in for the host's model gives them our latents and timesteps unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from comfy.controlnet import ControlNet, T2IAdapter
from einops import rearrange
from torch import Tensor

from ...tav_core import Conditioning

if TYPE_CHECKING:
    from ...tav_core.conditioning import Residuals

LAST_TIMESTEP = 999  # of Stable Diffusion
KINDS = (ControlNet, T2IAdapter)


class _AsGiven:
    """Stands in for the host's model and its sampling, which would rescale latents and look up timesteps."""

    @property
    def model_sampling(self) -> _AsGiven:
        return self

    def timestep(self, t: Tensor) -> Tensor:
        return t

    def calculate_input(self, t: Tensor, x_t: Tensor) -> Tensor:
        return x_t


@dataclass(frozen=True)
class HostControl:
    """A control object of the host, with those that are chained behind it. See `tav_core.Control`.

    Attributes:
        control: as Apply ControlNet puts it into CONDITIONING.
        frames: of the clip, whose images act; None for all.
    """

    control: Any
    frames: tuple[int, ...] | None = None

    @property
    def chain(self) -> list[Any]:
        """The objects, the outermost one first."""
        found, control = [], self.control
        while control is not None:
            found.append(control)
            control = control.previous_controlnet
        return found

    def check(self, latents: Tensor, unet_config: Mapping[str, Any]) -> None:
        """Raise a ValueError unless it is of a kind that is known, for these frames and this family of models."""
        for control in self.chain:
            if type(control) not in KINDS or control.latent_format is not None:
                raise ValueError(
                    f"CONDITIONING carries a {type(control).__name__}, which is not supported: apply a ControlNet or a "
                    "T2I-Adapter of Stable Diffusion 1 or 2 with Apply ControlNet."
                )
            frames, hints = latents.shape[2], len(control.cond_hint_original)
            if hints not in (1, frames):
                raise ValueError(
                    f"Apply ControlNet has {hints} images and the clip {frames} frames: give one image for each frame, "
                    "or one for all."
                )
            width = _text_width(control)
            if width not in (None, unet_config["cross_attention_dim"]):
                raise ValueError(
                    f"The ControlNet reads prompts of width {width}, the model those of width "
                    f"{unet_config['cross_attention_dim']}: load one that was made for this family of models."
                )

    def residuals(self, x_t: Tensor, t: Tensor, text: Tensor) -> Residuals:
        """See `tav_core.Control`. It runs inside `running` alone."""
        clips, _, frames = x_t.shape[:3]
        images, of_frames = rearrange(x_t, "b c f h w -> (b f) c h w"), t.repeat_interleave(frames).float()
        context = {"c_crossattn": text.repeat_interleave(frames, dim=0)}
        with self._cut():
            got = self.control.get_control(images, of_frames, context, clips, {})
        return {} if got is None else _residuals(got)

    @contextmanager
    def _cut(self) -> Iterator[None]:
        """The controls with the images of these frames alone; what they made of others is made anew."""
        hints = [control.cond_hint_original for control in self.chain]
        try:
            for control, hint in zip(self.chain, hints, strict=True):
                if self.frames is not None and len(hint) > 1:
                    control.cond_hint_original, control.cond_hint = hint[list(self.frames)], None
            yield
        finally:
            for control, hint in zip(self.chain, hints, strict=True):
                if control.cond_hint_original is not hint:
                    control.cond_hint_original, control.cond_hint = hint, None

    def of_frames(self, frames: Sequence[int]) -> HostControl:
        """See `tav_core.Control`."""
        return replace(self, frames=tuple(frames))

    def settings(self) -> Mapping[str, Any]:
        """See `tav_core.Control`."""
        return {
            str(index): [type(control).__name__, float(control.strength), *map(float, control.timestep_percent_range)]
            for index, control in enumerate(self.chain)
        }

    def tensors(self) -> Mapping[str, Tensor]:
        """See `tav_core.Control`."""
        found: dict[str, Tensor] = {}
        for index, control in enumerate(self.chain):
            found[f"{index}.hint"] = control.cond_hint_original
            found |= {f"{index}.{name}": weight for name, weight in _network(control).state_dict().items()}
        return found


def with_control(text: Tensor, extras: Mapping[str, Any], added: Mapping[str, Tensor]) -> Tensor | Conditioning:
    """The embedding of an entry of CONDITIONING with what is added to it, under the control that it carries."""
    control = extras.get("control")
    if control is None:
        return Conditioning(text, added=added) if added else text
    return Conditioning(text, (HostControl(control),), added)


def controls_of(*prompts: Tensor | Conditioning | None) -> list[HostControl]:
    """The host's controls under any of these prompts, each once."""
    found = [c for p in prompts if isinstance(p, Conditioning) for c in p.controls if isinstance(c, HostControl)]
    return list(dict.fromkeys(found))


@contextmanager
def running(controls: list[HostControl]) -> Iterator[None]:
    """Prepare controls for a run, as the host does before it samples, and let go of what they hold after it."""
    try:
        for control in controls:
            control.control.pre_run(_AsGiven(), lambda share: (1 - share) * LAST_TIMESTEP)
        yield
    finally:
        for control in controls:
            control.control.cleanup()


def models_of(controls: list[HostControl]) -> list[Any]:
    """The patchers that the host loads for them."""
    return [patcher for control in controls for patcher in control.control.get_models()]


def _residuals(got: Mapping[str, list[Tensor | None]]) -> Residuals:
    """The host's lists, which its UNet takes from their ends, as diffusers names and orders them."""
    found: Residuals = {}
    if inner := [tensor for tensor in reversed(got.get("input", [])) if tensor is not None]:
        found["down_intrablock_additional_residuals"] = inner
    outer = [tensor for tensor in got.get("output", []) if tensor is not None]
    if outer:
        found["down_block_additional_residuals"] = outer
        middle = [tensor for tensor in got.get("middle", []) if tensor is not None]
        found["mid_block_additional_residual"] = middle[-1] if middle else torch.zeros_like(outer[-1])
    return found


def _network(control: Any) -> torch.nn.Module:
    return control.t2i_model if isinstance(control, T2IAdapter) else control.control_model


def _text_width(control: Any) -> int | None:
    """Of the prompts that a control reads; None if it reads none."""
    names = (m for name, m in _network(control).named_modules() if name.endswith("attn2.to_k"))
    return next((module.in_features for module in names), None)
