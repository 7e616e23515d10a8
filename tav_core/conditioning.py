"""What a prediction is conditioned on: prompts, and controls beside them. models/, diffusion/ and unet/ share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

Residuals = dict[str, "list[Tensor] | Tensor"]  # keyword arguments of `VideoUNet.forward`; empty adds nothing


class Control(Protocol):
    """What steers the model beside the prompt by residuals: a ControlNet or a T2I-Adapter with its hints.

    One acts in all calls of a run, under either prompt. It does not change.
    """

    def check(self, latents: Tensor, unet_config: Mapping[str, Any]) -> None:
        """Raise a ValueError unless it can act on clips like `latents` (b, c, f, h, w) in a UNet of this config."""

    def residuals(self, x_t: Tensor, t: Tensor, text: Tensor) -> Residuals:
        """What it adds at latents x_t (b, c, f, h, w), timesteps t (b,) and text (b, n, d), all on one device."""

    def settings(self) -> Mapping[str, Any]:
        """The plain values that decide its residuals."""

    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors that decide them: hints and weights."""

    def of_frames(self, frames: Sequence[int]) -> Control:
        """The same for a clip of these frames alone."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The prompts of a batch of clips, one prompt for each clip.

    Attributes:
        text: text embeddings, (b, n, d).
        controls: what acts beside the prompt, on all clips alike.
    """

    text: Tensor
    controls: tuple[Control, ...] = ()

    def to(self, device: torch.device) -> Conditioning:
        """The same with the text on another device."""
        return replace(self, text=self.text.to(device))

    def detach(self) -> Conditioning:
        """A copy that can be trained on, also of tensors that were made in inference mode."""
        return replace(self, text=self.text.detach().clone())

    def fits(self, other: Conditioning) -> bool:
        """Whether both can stand in one batch."""
        return self.text.shape == other.text.shape and self.controls == other.controls

    def cat(self, other: Conditioning) -> Conditioning:
        """Both in one batch, this one's clips first: (2 b, n, d)."""
        return replace(self, text=torch.cat([self.text, other.text]))

    def of_frames(self, frames: Sequence[int]) -> Conditioning:
        """The same for a clip of these frames alone."""
        return replace(self, controls=tuple(control.of_frames(frames) for control in self.controls))

    def under(self, controls: tuple[Control, ...]) -> Conditioning:
        """The same with these controls beside its own."""
        return replace(self, controls=self.controls + controls)

    def residuals(self, x_t: Tensor, t: int | Tensor) -> Residuals:
        """What all controls add together at latents x_t (b, c, f, h, w) and at timestep t, one for all or (b,)."""
        timesteps = torch.as_tensor(t, device=x_t.device).expand(x_t.shape[0])
        total: Residuals = {}
        for control in self.controls:
            with torch.no_grad():
                for name, added in control.residuals(x_t.detach(), timesteps, self.text).items():
                    total[name] = _sum(total[name], added) if name in total else added
        return total


def _sum(first: list[Tensor] | Tensor, second: list[Tensor] | Tensor) -> list[Tensor] | Tensor:
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return torch.add(first, second)  # type: ignore[arg-type]
    return [one + other for one, other in zip(first, second, strict=True)]


def checked_controls(controls: object, latents: Tensor, unet_config: Mapping[str, Any]) -> tuple[Control, ...]:
    """Controls that can act on a clip, (b, c, f, h, w), in a UNet of this config.

    Raises:
        TypeError, ValueError: they are no list of controls, or one does not fit.
    """
    if not isinstance(controls, (list, tuple)):
        raise TypeError(f"controls are several: give a list, not a {type(controls).__name__}.")
    for control in controls:
        if not callable(getattr(control, "check", None)):
            raise TypeError(f"A control is a HintControl(network, hint) or like it, not a {type(control).__name__}.")
        control.check(latents, unet_config)
    return tuple(controls)


def as_conditioning(text: Tensor | Conditioning) -> Conditioning:
    """Text embeddings (b, n, d), or what holds them already."""
    return text if isinstance(text, Conditioning) else Conditioning(text)
