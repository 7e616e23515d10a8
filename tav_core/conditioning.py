"""What a prediction is conditioned on: prompts, and controls beside them. models/, diffusion/ and unet/ share it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        added: what SDXL takes beside the text: text_embeds (b, p), the pooled text, and time_ids (b, 6), sizes in
            pixels; empty for Stable Diffusion 1 and 2.
    """

    text: Tensor
    controls: tuple[Control, ...] = ()
    added: Mapping[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the prompts by name."""
        return {"text": self.text, **{f"added.{name}": tensor for name, tensor in self.added.items()}}

    def to(self, device: torch.device) -> Conditioning:
        """The same with its tensors on another device."""
        return self._with(lambda tensor: tensor.to(device))

    def detach(self) -> Conditioning:
        """A copy that can be trained on, also of tensors that were made in inference mode."""
        return self._with(lambda tensor: tensor.detach().clone())

    def fits(self, other: Conditioning) -> bool:
        """Whether both can stand in one batch."""
        ours, theirs = self.tensors(), other.tensors()
        if ours.keys() != theirs.keys() or self.controls != other.controls:
            return False
        return all(ours[name].shape == theirs[name].shape for name in ours)

    def cat(self, other: Conditioning) -> Conditioning:
        """Both in one batch, this one's clips first: (2 b, n, d)."""
        theirs = other.tensors()
        ours = {name: torch.cat([tensor, theirs[name]]) for name, tensor in self.tensors().items()}
        return replace(self, text=ours["text"], added={name: ours[f"added.{name}"] for name in self.added})

    def split(self) -> list[Conditioning]:
        """One for each clip, (1, n, d)."""
        return [self._with(lambda tensor, clip=clip: tensor[clip : clip + 1]) for clip in range(len(self.text))]  # type: ignore[misc]

    def of_clips(self, clips: Sequence[int]) -> Conditioning:
        """The same for these clips alone, in this order."""
        return self._with(lambda tensor: tensor[list(clips)])

    def _with(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        """The same with each tensor of the prompts changed."""
        return replace(self, text=change(self.text), added={name: change(t) for name, t in self.added.items()})

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
