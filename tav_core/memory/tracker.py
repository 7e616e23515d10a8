"""What torch's operations do while a ledger listens: memory taken and given back, arithmetic, traffic.

The ledger hears of each operation before a device does it, so it works on real tensors and on those without storage.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
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


@dataclass
class Work:
    """What operations did, in the units that cost time.

    Attributes:
        flops: floating-point operations of matrix products, convolutions and attention.
        bytes: read and written by operations that make a tensor: no view of another, and nothing in place.
        scores: of attention, one for each query and key, two on the way back; their exponentials are no flops.
        weight_bytes: of the weights of convolutions, which a CPU lays out anew in each.
        operations: how many; each costs some time in Python and torch, views too.
    """

    flops: int = 0
    bytes: int = 0
    scores: int = 0
    weight_bytes: int = 0
    operations: int = 0


class Ledger(TorchDispatchMode):
    """Counts what operations allocate, until it is given up, and the work that they do.

    Attributes:
        alive, peak: bytes, now and at most, of storages that came into being under the ledger.
        work: of all operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.work = Work()
        self.entries: set[int] = set()

    @property
    def flops(self) -> int:
        return self.work.flops

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "aten":  # what stand-ins without storage are asked beside, such as their device
            return func(*args, **(kwargs or {}))
        taken = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        given = {self._key(tensor) for tensor in taken}
        out = func(*args, **(kwargs or {}))
        made = [tensor for tensor in tree_leaves(out) if isinstance(tensor, Tensor)]
        for tensor in made:
            if self._key(tensor) not in given and self._key(tensor) not in self.entries:
                self._enter(tensor.untyped_storage())
        self.peak = max(self.peak, self.alive)
        self._count(func._overloadpacket, args, kwargs or {}, out)
        if any(self._key(tensor) not in given for tensor in made):
            self.work.bytes += sum(tensor.nbytes for tensor in [*taken, *made])
        return out

    def _count(self, operation: Any, args: Any, kwargs: Any, out: Any) -> None:
        self.work.operations += 1
        self.work.flops += _flops(operation, args, kwargs, out)
        self.work.scores += _scores(operation, args)
        if operation in (aten.convolution, aten.convolution_backward):
            self.work.weight_bytes += args[1 if operation == aten.convolution else 2].nbytes

    @staticmethod
    def _key(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.entries.add(key)
        self.alive += size
        weakref.finalize(storage, partial(self._strike_out, key, size))

    def _strike_out(self, key: int, size: int) -> None:
        self.entries.discard(key)
        self.alive -= size


def _flops(operation: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Of one operation, under the formulas of torch's FlopCounterMode, which lacks the CPU's attention."""
    if operation == CPU_ATTENTION:
        return int(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))
    if operation == CPU_ATTENTION_BACKWARD:
        # Scores once more, then the gradients of values, weights, queries and keys: five products for the two forward.
        queries, keys = args[1].shape, args[2].shape
        return 5 * 2 * prod(queries) * keys[-2]
    formula = flop_registry.get(operation)
    return int(formula(*args, **kwargs, out_val=out)) if formula else 0


def _scores(operation: Any, args: Any) -> int:
    name = operation.__name__
    if not name.startswith("_scaled_dot_product"):
        return 0
    way_back = name.endswith("backward")
    queries, keys = args[way_back : way_back + 2]
    return (1 + way_back) * prod(queries.shape[:-1]) * keys.shape[-2]
