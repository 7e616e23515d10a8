"""What replaces the image model's norms, resnets, transformers and convolutions.

Each adopts the children of the module that it replaces under their old names, so state-dict keys stay.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from einops import rearrange
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from .checkpointing import checkpoint_cheap, checkpoint_whole
from .frames import FrameContext, fold_frames, unfold_frames


class ClipGroupNorm(nn.GroupNorm):
    """GroupNorm whose statistics pool all frames of a clip, over folded images (b f, c, h, w).

    The published resnets normalise a 5-D tensor, so mean and variance are taken over (c / groups, f, h, w). It takes
    the affine parameters of the norm that it replaces: state-dict keys stay.
    """

    def __init__(self, norm: nn.GroupNorm, context: FrameContext):
        # Affine parameters are adopted, not made: affine=False allocates none.
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, affine=False)
        self.affine = norm.affine
        self.weight = norm.weight
        self.bias = norm.bias
        self.context = context

    def forward(self, images: Tensor) -> Tensor:
        return fold_frames(super().forward(unfold_frames(images, self.context.num_frames)))


class ClipResnet(nn.Module):
    """A resnet that adopts the children of the one that it replaces, under their old names.

    Recomputation stops at the last tensor that the backward pass needs, which is the input of a convolution. So
    selective checkpointing stores the input of either norm, and no convolution runs twice; full checkpointing stores
    only the inputs, and neither the second convolution nor the shortcut runs twice.

    Arguments:
        resnet: the resnet to replace; its children are shared, not copied.
        context: shared by the whole model.
        pool_frames: whether its norms take their statistics over the clip or over each frame.
    """

    def __init__(self, resnet: ResnetBlock2D, context: FrameContext, pool_frames: bool):
        super().__init__()
        self.norm1 = ClipGroupNorm(resnet.norm1, context) if pool_frames else resnet.norm1
        self.conv1 = resnet.conv1
        self.time_emb_proj = resnet.time_emb_proj
        self.norm2 = ClipGroupNorm(resnet.norm2, context) if pool_frames else resnet.norm2
        self.dropout = resnet.dropout
        self.conv2 = resnet.conv2
        self.nonlinearity = resnet.nonlinearity
        self.conv_shortcut = resnet.conv_shortcut
        self.output_scale_factor = resnet.output_scale_factor
        self.context = context

    def forward(self, images: Tensor, time_embedding: Tensor) -> Tensor:
        """Images (b f, c, h, w), time embedding (b f, d); returns (b f, c', h, w)."""
        return checkpoint_whole(self.context, self._run, images, time_embedding)

    def _run(self, images: Tensor, time_embedding: Tensor) -> Tensor:
        checkpointed = partial(checkpoint_cheap, self.context)
        hidden = checkpointed(self._first, images)
        hidden = hidden + self.time_emb_proj(self.nonlinearity(time_embedding))[:, :, None, None]
        hidden = checkpointed(self._second, hidden)
        shortcut = images if self.conv_shortcut is None else self.conv_shortcut(images)
        output = shortcut + hidden
        return output if self.output_scale_factor == 1 else output / self.output_scale_factor

    def _first(self, images: Tensor) -> Tensor:
        return self.conv1(self.nonlinearity(self.norm1(images)))

    def _second(self, hidden: Tensor) -> Tensor:
        return self.conv2(self.dropout(self.nonlinearity(self.norm2(hidden))))


class ClipTransformer(nn.Module):
    """A transformer that adopts the children of the one that it replaces, under their old names.

    Nothing but the blocks trains. Under gradient checkpointing the first block stores the input images, which are
    stored in any case, and recomputes its tokens from them, for one small projection.

    Arguments:
        transformer: the transformer to replace; its children are shared, not copied.
    """

    def __init__(self, transformer: Transformer2DModel):
        super().__init__()
        self.use_linear_projection = transformer.use_linear_projection
        self.norm = transformer.norm
        self.proj_in = transformer.proj_in
        self.transformer_blocks = transformer.transformer_blocks
        self.proj_out = transformer.proj_out

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        **unused_by_name: object,
    ) -> tuple[Tensor]:
        """As the UNet of diffusers calls it: images (b f, c, h, w) and text (b, n, d) to a tuple of images."""
        assert attention_mask is None and encoder_attention_mask is None, "VideoUNet passes no masks"
        first, *others = self.transformer_blocks
        tokens = first(hidden_states, encoder_hidden_states, entry=self._tokens)
        for block in others:
            tokens = block(tokens, encoder_hidden_states)
        return (hidden_states + self._images(tokens, hidden_states),)

    def _tokens(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, h w, c'), normed and projected."""
        normed = self.norm(images)
        if self.use_linear_projection:
            return self.proj_in(rearrange(normed, "n c h w -> n (h w) c"))
        return rearrange(self.proj_in(normed), "n c h w -> n (h w) c").contiguous()

    def _images(self, tokens: Tensor, like: Tensor) -> Tensor:
        """(n, h w, c') -> (n, c, h, w), projected."""
        tokens = self.proj_out(tokens) if self.use_linear_projection else tokens
        images = rearrange(tokens, "n (h w) c -> n c h w", h=like.shape[2]).contiguous()
        return images if self.use_linear_projection else self.proj_out(images)


def base_layer(layer: Any) -> Any:
    """The layer itself, or the one inside peft's wrappers."""
    while hasattr(layer, "base_layer"):
        layer = layer.base_layer
    return layer


class CastingLinear(nn.Linear):
    """A linear layer that computes in the type of its input: weights that train rest in float32 in a half-precision
    model. It has the constructor of nn.Linear, as peft needs it."""

    @classmethod
    def adopt(cls, layer: Any) -> Any:
        """The layer with the weights of an nn.Linear; a wrapper of peft gets it as its base layer and is returned."""
        if hasattr(layer, "base_layer"):
            layer.base_layer = cls.adopt(layer.base_layer)
            return layer
        with torch.device("meta"):  # weights are adopted, not made
            casting = cls(layer.in_features, layer.out_features, layer.bias is not None)
        casting.weight, casting.bias = layer.weight, layer.bias
        return casting

    def forward(self, tokens: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(tokens.dtype)
        return F.linear(tokens, self.weight.to(tokens.dtype), bias)


class FrozenConv2d(nn.Conv2d):
    """A convolution that stores no input while its weights are frozen.

    torch stores the input of each convolution for the gradient of its weight, even where no such gradient is wanted.
    The gradient of the input needs the weight alone. It has the constructor of nn.Conv2d, as peft needs it.
    """

    @classmethod
    def adopt(cls, conv: nn.Conv2d) -> FrozenConv2d:
        """With the weights of a convolution."""
        geometry: Any = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        kind: Any = {"groups": conv.groups, "bias": conv.bias is not None, "padding_mode": conv.padding_mode}
        with torch.device("meta"):  # weights are adopted, not made
            frozen = cls(conv.in_channels, conv.out_channels, *geometry, **kind)
        frozen.weight, frozen.bias = conv.weight, conv.bias
        return frozen

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
        # Not among the saved tensors: to restore it, a checkpoint would run the convolution twice.
        ctx.weight, ctx.input_shape, ctx.options = weight, images.shape, options
        return F.conv2d(images, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # Under autocast the forward pass casts the weight; the backward pass has to cast it too.
        grad = conv2d_input(ctx.input_shape, ctx.weight.to(grad_output.dtype), grad_output, *ctx.options)
        return grad, *[None] * 6
