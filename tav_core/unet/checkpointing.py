"""Gradient checkpointing: what is stored for the backward pass, and what is recomputed.

                                      False     "selective"   True
    convolutions                      stored    stored        one of two recomputed
    sparse-causal attention           stored    stored        recomputed
    its projections, keys doubled     stored    recomputed    recomputed
    text and temporal attention       stored    recomputed    recomputed
    feed-forward                      stored    recomputed    recomputed
    norms, activations                stored    recomputed    recomputed

The upper two rows take most of the time of a step, and the lower ones most of its memory.

Checkpoints are not reentrant: reentrant ones need an input that requires a gradient, which the down path lacks. Nothing
in the model draws random numbers, so no generator's state needs to be stored.
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
    """part(*inputs), recomputed as a whole under full checkpointing."""
    return recomputed(_counting(context, part), *inputs) if _level(context) is True else part(*inputs)


def checkpoint_cheap(context: FrameContext, part: Part, *inputs: Tensor) -> Tensor:
    """part(*inputs), recomputed under selective checkpointing; full checkpointing recomputes the whole around it."""
    return recomputed(_counting(context, part), *inputs) if _level(context) == SELECTIVE else part(*inputs)


def checkpoint_around_attention(context: FrameContext, part: Part, *inputs: Tensor) -> Tensor:
    """part(*inputs), recomputed; selective checkpointing stores the result of the attention in it."""
    if _level(context) == SELECTIVE:
        storing = partial(create_selective_checkpoint_contexts, _store_attention)
        return recomputed(_counting(context, part), *inputs, context_fn=storing)
    return checkpoint_whole(context, part, *inputs)


def _counting(context: FrameContext, part: Part) -> Part:
    """The part under the frame count of now, whenever it is recomputed."""
    num_frames = context.num_frames

    def run(*inputs: Tensor) -> Tensor:
        with context.counting(num_frames):
            return part(*inputs)

    return run


def _level(context: FrameContext) -> bool | str:
    return context.checkpointing if torch.is_grad_enabled() else False


def recomputed(part: Part, *inputs: Tensor, **options: Any) -> Tensor:
    """part(*inputs), of which only the inputs are stored for the backward pass."""
    return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False, **options)


def _store_attention(_context: object, operation: Any, *_args: object, **_kwargs: object) -> CheckpointPolicy:
    """Store the result of softmax(Q K^T) V, unless its kernel makes a matrix of scores, which would be stored too.

    Each kernel is an operation of its own; their names begin alike.
    """
    name = operation.__name__
    attention = name.startswith("_scaled_dot_product") and "math" not in name
    return CheckpointPolicy.MUST_SAVE if attention else CheckpointPolicy.PREFER_RECOMPUTE
