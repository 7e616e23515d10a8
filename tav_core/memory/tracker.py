"""The memory that torch's operations allocate and free, and their floating-point operations.

The tracker intercepts operations before a device runs them, so it works on real tensors and on those without storage.
"""

from __future__ import annotations

import weakref
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

aten = torch.ops.aten
CPU_ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu
CPU_ATTENTION_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward


class MemoryTracker(TorchDispatchMode):
    """Counts the bytes that operations allocate until they are freed, and floating-point operations.

    Attributes:
        alive, peak: bytes, now and at most, of storages that were allocated under the tracker.
        flops: of matrix products, convolutions and attention so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.flops = 0
        self.entries: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "aten":  # queries of tensors without storage, such as their device
            return func(*args, **(kwargs or {}))
        inputs = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        input_keys = {self._key(tensor) for tensor in inputs}
        out = func(*args, **(kwargs or {}))
        outputs = [tensor for tensor in tree_leaves(out) if isinstance(tensor, Tensor)]
        for tensor in outputs:
            if self._key(tensor) not in input_keys and self._key(tensor) not in self.entries:
                self._add(tensor.untyped_storage())
        self.peak = max(self.peak, self.alive)
        self.flops += _flops(func._overloadpacket, args, kwargs or {}, out)
        return out

    @staticmethod
    def _key(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.entries.add(key)
        self.alive += size
        weakref.finalize(storage, partial(self._release, key, size))

    def _release(self, key: int, size: int) -> None:
        self.entries.discard(key)
        self.alive -= size


def _flops(operation: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Floating-point operations by the formulas of torch's FlopCounterMode, which lacks the CPU's attention."""
    if operation == CPU_ATTENTION:
        return int(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))
    if operation == CPU_ATTENTION_BACKWARD:
        # Scores once more, then the gradients of values, weights, queries and keys: five products for the two forward.
        queries, keys = args[1].shape, args[2].shape
        return 5 * 2 * prod(queries) * keys[-2]
    formula = flop_registry.get(operation)
    return int(formula(*args, **kwargs, out_val=out)) if formula else 0
