"""Muon for convolutions, AdamW for the rest.

Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a weight matrix by the nearest
orthogonal matrix. A convolution (o, i, k, k) counts as a matrix (o, i k k). Updates are scaled to the size that AdamW's
have, 0.2 in root mean square (arXiv:2502.16982), so that one learning rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """The orthogonal factor of a matrix, near enough, by a quintic Newton-Schulz iteration: (m, n) to (m, n)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal updates. Every parameter has at least two dimensions; all but the first are joined."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(parameters, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.contiguous()
                state = self.state[parameter]
                mean = state.setdefault("mean", torch.zeros_like(gradient))
                mean.lerp_(gradient, 1 - group["momentum"])
                ahead = gradient.lerp(mean, group["momentum"])  # Nesterov's
                matrix = orthogonalize(ahead.flatten(1))
                scale = 0.2 * math.sqrt(max(matrix.shape))
                parameter.add_(matrix.view(parameter.shape), alpha=-group["lr"] * scale)


def make_optimizers(modules: Iterable[nn.Module], lr: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for weights that are matrices or convolutions of rank 12 or more, AdamW for embeddings and all others."""
    inner: list[nn.Parameter] = []
    other: list[nn.Parameter] = []
    for module in modules:
        embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
        for parameter in module.parameters():
            wide = parameter.ndim in (2, 4) and min(parameter.shape[0], parameter[0].numel()) >= 12
            (inner if wide and id(parameter) not in embeddings else other).append(parameter)
    return [Muon(inner, muon_lr), torch.optim.AdamW(other, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)]
