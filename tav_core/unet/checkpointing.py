"""Gradient checkpointing: what is kept of a step for the way back, and what is computed again.

                                      False    "selective"    True
    convolutions                      kept     kept           again, one of two
    sparse-causal attention           kept     kept           again
    its projections, keys doubled     kept     again          again
    text and temporal attention       kept     again          again
    feed-forward                      kept     again          again
    norms, activations                kept     again          again

The upper two rows take most of the time of a step, and the lower ones most of its memory.

A part is repeated without reentrance: reentrant checkpoints need an input that requires a gradient, which the down path
has not. Nothing in the model draws random numbers, so that no generator's state needs to be kept.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from .frames import SELECTIVE, FrameContext

Part = Callable[..., Tensor]


def checkpoint_whole(context: FrameContext, part: Part, *inputs: Tensor) -> Tensor:
    """part(*inputs), repeated under full checkpointing with all that it is made of."""
    return repeated(part, *inputs) if _level(context) is True else part(*inputs)


def checkpoint_cheap(context: FrameContext, part: Part, *inputs: Tensor) -> Tensor:
    """part(*inputs), repeated under selective checkpointing; under full the whole is, of which this is a part."""
    return repeated(part, *inputs) if _level(context) == SELECTIVE else part(*inputs)


def checkpoint_around_attention(context: FrameContext, part: Part, *inputs: Tensor) -> Tensor:
    """part(*inputs), repeated; under selective checkpointing without the attention in it, whose result is kept."""
    if _level(context) == SELECTIVE:
        return repeated(part, *inputs, context_fn=partial(create_selective_checkpoint_contexts, _keep_attention))
    return checkpoint_whole(context, part, *inputs)


def _level(context: FrameContext) -> bool | str:
    return context.checkpointing if torch.is_grad_enabled() else False


def repeated(part: Part, *inputs: Tensor, **options: Any) -> Tensor:
    """part(*inputs), of which the inputs alone are kept for the way back."""
    return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False, **options)


def _keep_attention(_context: object, operation: Any, *_args: object, **_kwargs: object) -> CheckpointPolicy:
    """Keep the result of softmax(Q K^T) V, unless its kernel makes a matrix of scores, which would be kept too.

    Each kernel is an operation of its own, with a name that begins alike.
    """
    name = operation.__name__
    attention = name.startswith("_scaled_dot_product") and "math" not in name
    return CheckpointPolicy.MUST_SAVE if attention else CheckpointPolicy.PREFER_RECOMPUTE
