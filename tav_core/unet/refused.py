"""Methods of a diffusers UNet that have no effect once it is inflated: they raise, and name what does the same.

Those that set attention processors are refused by the attentions themselves (`ClipAttention.set_processor`).
"""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from diffusers import UNet2DConditionModel

_CHECKPOINTING = (
    "tune with TuningConfig(gradient_checkpointing=True), or set video_unet.context.checkpointing in a loop of your own"
)
_FUSED = "leave the call out: it takes torch's fused attention wherever there is one"
REMEDIES = {
    "enable_gradient_checkpointing": _CHECKPOINTING,
    "enable_xformers_memory_efficient_attention": _FUSED,
    "set_attention_slice": _FUSED,
    "set_attention_backend": _FUSED,
    "enable_forward_chunking": "leave the call out: it computes feed-forwards in pieces as it is",
}


def refuse_methods(unet: UNet2DConditionModel) -> None:
    """Let the methods raise a ValueError with their remedy."""
    for name, remedy in REMEDIES.items():
        if hasattr(unet, name):
            vars(unet)[name] = partial(_refuse, name, remedy)


def is_refusal(method: object) -> bool:
    """Whether a method is one that `refuse_methods` made."""
    return isinstance(method, partial) and method.func is _refuse


def _refuse(name: str, remedy: str, *_: object, **__: object) -> NoReturn:
    raise ValueError(f"{name} cannot act in an inflated UNet: {remedy}.")
