"""Clips longer than were tuned, in windows, through the host's context handlers.

The host's own windows leave the hints of ControlNets whole and lead a window by one frame. Here a window is led as in
`tav_core/editing/windows.py`, and all that belongs to single frames is cut to it: latents, masks, conditions, hints.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy.context_windows import ContextHandlerABC
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..progress import raise_if_interrupted

if TYPE_CHECKING:
    from ....tav_core.editing.windows import Window

KEY = "tune-a-video windows"
HANDLER = "context_handler"  # in the host's model_options
LEADS = 2


def with_windows(model: Any, context_length: int, overlap: int) -> Any:
    """A clone of MODEL that denoises clips of more than `context_length` frames in windows.

    Raises:
        ValueError: MODEL has windows already, or the overlap is not below the length.
    """
    from ....tav_core.editing.windows import check_windows

    check_windows(context_length, overlap)
    if HANDLER in model.model_options:
        raise ValueError("This MODEL has context windows already: remove the other node that sets them.")
    patched, handler = model.clone(), ClipWindows(context_length, overlap)
    patched.model_options[HANDLER] = handler
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, handler.around_run)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, handler.plan_memory)
    return patched


class ClipWindows(ContextHandlerABC):
    """The host's handler of context windows.

    Arguments:
        context_length: frames of a window, without those that lead it.
        overlap: frames that neighbouring windows share.
    """

    def __init__(self, context_length: int, overlap: int):
        super().__init__()
        self.context_length, self.overlap = context_length, overlap
        self._cuts: dict[tuple, Any] | None = None  # controls by themselves and their frames, during a run

    def around_run(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """A wrapper of OUTER_SAMPLE: cut controls last as long as a run, so that a hint is resized once."""
        self._cuts = {}
        try:
            return executor(*args, **kwargs)
        finally:
            self._cuts = None

    def plan_memory(self, executor: Any, model: Any, noise_shape: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        """A wrapper of PREPARE_SAMPLING: the host plans the memory of one window."""
        frames = min(noise_shape[0], self.context_length + LEADS)
        return executor(model, [frames, *noise_shape[1:]], *args, **kwargs)

    def should_use_context(
        self, model: Any, conds: list, x_in: Tensor, timestep: Tensor, model_options: dict[str, Any]
    ) -> bool:
        """Whether the clip is longer than a window."""
        return len(x_in) > self.context_length

    def get_resized_cond(self, cond_in: list | None, x_in: Tensor, window: Window, device: Any = None) -> list | None:
        """The conditions of one prompt, cut to the frames that the model is given in a window."""
        if cond_in is None:
            return None
        return [self._cut_condition(condition, window.seen) for condition in cond_in]

    def execute(
        self,
        calc_cond_batch: Callable,
        model: Any,
        conds: list,
        x_in: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
    ) -> list[Tensor]:
        """The predictions for all prompts, (f, c, h, w) each, averaged over windows."""
        from ....tav_core.editing.windows import windows_of

        num_frames = len(x_in)
        totals, weights = [torch.zeros_like(x_in) for _ in conds], x_in.new_zeros(num_frames, 1, 1, 1)
        for window in windows_of(num_frames, self.context_length, self.overlap):
            raise_if_interrupted()
            cut = [self.get_resized_cond(cond, x_in, window) for cond in conds]
            options = _with_window(model_options, window.seen, num_frames)
            predicted = calc_cond_batch(model, cut, x_in[window.seen], _cut(timestep, window.seen), options)
            share = window.weights.to(x_in)[:, None, None, None]
            weights[window.frames] += share
            for total, part in zip(totals, predicted, strict=True):
                total[window.frames] += share * part[len(window.leads) :]
        return [total / weights for total in totals]

    def _cut_condition(self, condition: dict[str, Any], seen: list[int]) -> dict[str, Any]:
        made = condition.copy()
        if "mask" in made:
            made["mask"] = _cut(made["mask"], seen)
        if "control" in made:
            made["control"] = self._cut_control(made["control"], seen)
        made["model_conds"] = {
            name: value._copy_with(_cut(value.cond, seen)) if isinstance(value.cond, Tensor) else value
            for name, value in made["model_conds"].items()
        }
        return made

    def _cut_control(self, control: Any, seen: list[int]) -> Any:
        """A copy of a ControlNet or T2I-Adapter with the hints of some frames; its weights are shared.

        The same copy for the same frames during a run: the host batches prompts only if they have one control.
        """
        key = (id(control), *seen)
        if self._cuts is not None and key in self._cuts:
            return self._cuts[key]
        made = copy.copy(control)
        made.previous_controlnet = control.previous_controlnet and self._cut_control(control.previous_controlnet, seen)
        if not hasattr(control, "sub_idxs"):  # Advanced-ControlNet cuts its hints itself, by ad_params
            made.cond_hint_original = _cut(control.cond_hint_original, seen)
            made.extra_concat_orig = [_cut(each, seen) for each in control.extra_concat_orig]
        made.cond_hint = made.extra_concat = None
        if hasattr(control, "control_input"):
            made.control_input = None  # what a T2I-Adapter made of the whole hint
        if self._cuts is not None:
            self._cuts[key] = made
        return made


def _cut(value: Tensor, seen: list[int]) -> Tensor:
    """Some frames of a tensor (f, ...), repeated to all frames as the host does; one for all frames stays as it is."""
    return value if len(value) == 1 else value[[frame % len(value) for frame in seen]]


def _with_window(model_options: dict[str, Any], seen: list[int], num_frames: int) -> dict[str, Any]:
    """The host's options, with what IPAdapter and Advanced-ControlNet read of a window."""
    of_window = {"full_length": num_frames, "context_length": len(seen), "sub_idxs": seen}
    options = {**model_options.get("transformer_options", {}), "ad_params": of_window}
    return {**model_options, "transformer_options": options}
