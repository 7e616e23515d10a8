"""Convolutions that never train, and keep nothing of what they were given.

torch keeps the input of each convolution for the gradient of its weight, even where no such gradient is asked for. The
gradient of the input needs the weight alone.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input


class FrozenConv2d(nn.Conv2d):
    """A convolution that adopts the weights of the one that it replaces, and keeps no input while they are frozen."""

    def __init__(self, conv: nn.Conv2d):
        geometry: Any = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        kind: Any = {"groups": conv.groups, "bias": conv.bias is not None, "padding_mode": conv.padding_mode}
        with torch.device("meta"):  # weights are adopted, not made
            super().__init__(conv.in_channels, conv.out_channels, *geometry, **kind)
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, images: Tensor) -> Tensor:
        frozen = not any(parameter.requires_grad for parameter in self.parameters())
        if not frozen or self.padding_mode != "zeros":
            return super().forward(images)
        return _FrozenConvolution.apply(
            images, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class _FrozenConvolution(torch.autograd.Function):
    """conv2d(images, weight, bias, *options), with a gradient for `images` alone."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
        # Not among the saved tensors: to find it there again, a checkpoint would run the convolution twice.
        ctx.weight, ctx.input_shape, ctx.options = weight, images.shape, options
        return F.conv2d(images, weight, bias, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # Under autocast the way there had its weight cast; the way back has to do it itself.
        grad = conv2d_input(ctx.input_shape, ctx.weight.to(grad_output.dtype), grad_output, *ctx.options)
        return grad, *[None] * 6
