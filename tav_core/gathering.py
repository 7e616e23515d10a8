"""AdamW that takes each gradient into its moments as soon as it is there, so that none needs to be kept for the others.

    m <- b1 m + (1 - b1) c g        v <- b2 v + (1 - b2) (c g)^2            Zhang et al., arXiv:2305.19982

c = min(1, bound / norm) clips the gradient of all weights together, whose norm is known when the last one has gone. So
each is taken with c = 1, until their norm exceeds the bound. Then the way there and back is gone once more, as LOMO (Lv
et al., arXiv:2306.09782) does each time: what was taken is clipped, and the rest taken. A tuning seldom asks for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite, sqrt
from typing import Any

import torch
from torch import Tensor

from .tuning.config import TuningConfig

MOMENTS = ("exp_avg", "exp_avg_sq")
Pass = Callable[[], float]  # the model's way there and back, to its loss


def gathers(config: TuningConfig, dtype: torch.dtype) -> bool:
    """Whether a tuning works so: where memory is to be least and nothing else holds gradients.

    Several passes for one update add up in them, and float16 may have to forget them. `dtype` is that of the model.
    """
    alone = config.gradient_accumulation_steps == 1 and (config.compute_dtype or dtype) != torch.float16
    return config.gradient_checkpointing is True and alone


class GatheringAdamW(torch.optim.AdamW):
    """AdamW of which an update can be `gather` and then `step`.

    Results differ from torch's by rounding. That is little, unless a gradient of a thousand times the bound comes after
    others: what it leaves of theirs moves weights as far as it should, but in few correct digits.

    Arguments:
        parameters, options: as AdamW takes them.
        gathering: whether updates are to be made so. Without, it is torch's own, but for an update that was begun.

    Attributes:
        taken: the parameters whose gradient of the present update is in the moments. `gather` passes them over, so that
            an update which broke off goes on.
        whole: False while moments change, and from the last gradient on until `step` has ended.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], *, gathering: bool, **options: Any):
        super().__init__(parameters, **options)
        self.gathering = gathering
        self.taken: set[Tensor] = set()
        self.whole = True

    def gather(self, way: Pass, bound: float) -> tuple[float, Tensor]:
        """Go there and back, and once more where the gradient is to be clipped.

        Arguments:
            way: computes the loss and its gradient, the same each time it is called.
            bound: to which the norm of the gradient is clipped.

        Returns:
            The loss, and the norm before it was clipped, (); where it is not finite there is no way on.
        """
        squares = 0.0

        def take(parameter: Tensor, gradient: Tensor) -> None:
            nonlocal squares
            squares += float(gradient.norm()) ** 2
            if squares <= bound**2 and parameter not in self.taken:  # beyond it is clear that they are clipped
                self._take(parameter, gradient)

        with gradients_given_to(take, self._weights):
            loss = way()
        norm = sqrt(squares)
        clip = bound / (norm + 1e-6)  # as torch has it
        if clip < 1 and isfinite(norm):
            self._clip(way, clip)
        return loss, torch.tensor(norm)

    def _clip(self, way: Pass, clip: float) -> None:
        self.whole = False

        def put_right(parameter: Tensor, gradient: Tensor) -> None:
            if parameter in self.taken:  # when it went by first: it comes once each time
                self._clip_later(parameter, gradient, clip)
            else:
                self._take(parameter, gradient.mul_(clip))

        with gradients_given_to(put_right, self._weights):
            way()

    def _take(self, parameter: Tensor, gradient: Tensor) -> None:
        whole, self.whole = self.whole, False
        moments, (first, second) = self._moments(parameter), self._betas
        moments["exp_avg"].lerp_(gradient, 1 - first)
        moments["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        moments["step"] += 1
        self.taken.add(parameter)
        self.whole = whole and len(self.taken) < len(self._weights)

    def _clip_later(self, parameter: Tensor, gradient: Tensor, clip: float) -> None:
        """Multiply by `clip` what was taken of this gradient."""
        moments, (first, second) = self._moments(parameter), self._betas
        if moments["step"] == 1:  # nothing else is in them, and rounding would leave too little
            for name in ("step", *MOMENTS):
                moments[name].zero_()
            self._take(parameter, gradient.mul_(clip))
            return
        moments["exp_avg"].add_(gradient, alpha=(1 - first) * (clip - 1))
        moments["exp_avg_sq"].add_(gradient.square_(), alpha=(1 - second) * (clip**2 - 1))
        # Rounding may leave too little. By Cauchy and Schwarz it is no less than this share of the mean's square.
        least = max(0.0, second - first**2) * (1 - second) / (second or 1) / (1 - first) ** 2
        torch.maximum(moments["exp_avg_sq"], moments["exp_avg"].square().mul_(least), out=moments["exp_avg_sq"])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the weights: by the moments that were gathered, or as torch does."""
        if not self.taken:
            super().step(closure)
            return
        (group,) = self.param_groups
        first, second = self._betas
        made = torch.stack([self._moments(weight)["step"] for weight in self.taken]).tolist()  # a GPU is asked once
        for weight, updates in zip(self.taken, made, strict=True):
            moments = self._moments(weight)
            spread = moments["exp_avg_sq"].sqrt().div_(sqrt(1 - second**updates)).add_(group["eps"])
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.addcdiv_(moments["exp_avg"], spread, value=-group["lr"] / (1 - first**updates))
        self.taken.clear()
        self.whole = True

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "gathering": self.gathering, "taken": self.taken, "whole": self.whole}

    @property
    def _weights(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    @property
    def _betas(self) -> tuple[float, float]:
        return self.param_groups[0]["betas"]

    def _moments(self, parameter: Tensor) -> dict[str, Tensor]:
        """As torch's AdamW keeps them."""
        moments = self.state[parameter]
        if not moments:
            moments["step"] = torch.zeros((), device=parameter.device if self.defaults["fused"] else None)
            moments |= {name: torch.zeros_like(parameter) for name in MOMENTS}
        return moments


@contextmanager
def gradients_given_to(receiver: Callable[[Tensor, Tensor], None], parameters: Sequence[Tensor]) -> Iterator[None]:
    """Give each gradient to receiver(parameter, gradient) when it is there, in place of leaving it in `grad`."""
    hooks, given = [], True

    def give(parameter: Tensor) -> None:
        if given:  # an interruption may have left the hook behind
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            with torch.no_grad():
                receiver(parameter, gradient)

    try:
        for parameter in parameters:
            hooks.append(parameter.register_post_accumulate_grad_hook(give))
        yield
    finally:
        given = False
        for hook in hooks:
            hook.remove()
