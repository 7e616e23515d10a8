"""A device for tests where there is no GPU: the CPU's kernels behind a wall that only explicit moves pass.

Tensors of the device "second" refuse to meet tensors of the CPU, as those of a GPU do, and cannot become numpy arrays.
So code that forgets to move something fails here too. It has no float64, as Apple's have none. Other types, streams and
kernels of a GPU are not imitated.

It rests on torch's Python backends, which are experimental and missing in older versions, and it changes the process:
install it in one of its own.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.utils._device
from torch import Tensor
from torch.utils import backend_registration

NAME = "second"
AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
aten = torch.ops.aten
_installed: list[torch.library.Library] = []


class Distant(Tensor):
    """A tensor on the device. `near` holds its numbers, on the CPU."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> "Distant":
        if near.dtype == torch.float64 and near.numel() > 1:  # torch's loss scaling, for CUDA, makes single ones
            raise TypeError(f"The device {NAME} has no float64.")
        layout = dict(strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype)
        return Tensor._make_wrapper_subclass(cls, near.size(), **layout, device=torch.device(NAME, 0))

    def __init__(self, near: Tensor):
        self.near = near

    def __repr__(self, **_: Any) -> str:
        return f"Distant({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        return Tensor.data.__get__(self)

    @data.setter
    def data(self, other: "Distant") -> None:
        Tensor.data.__set__(self, other)
        self.near = other.near

    def tolist(self) -> Any:
        return self.near.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first.")


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """One operation of torch, below autograd. In inference mode composite ones come whole."""
    if torch.is_inference_mode_enabled():
        parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
    tensors: list[Tensor] = []
    _changed(tensors.append, (args, kwargs))
    distant = any(isinstance(tensor, Distant) for tensor in tensors)
    if func is aten.copy_.default:
        target, source = args[:2]
        (target.near if isinstance(target, Distant) else target).copy_(getattr(source, "near", source))
        return target
    if func is not aten._to_copy.default and distant:
        strangers = [tensor for tensor in tensors if not isinstance(tensor, Distant) and tensor.ndim]
        if strangers:
            raise RuntimeError(f"Expected all tensors to be on the same device: {func} got some of {NAME}:0 and cpu.")
    if kwargs.get("device") is not None:
        distant, kwargs = _is_distant(kwargs["device"]), kwargs | {"device": torch.device("cpu")}
    wrappers: dict[int, Distant] = {}

    def near(tensor: Tensor) -> Tensor:
        if isinstance(tensor, Distant):
            wrappers[id(tensor.near)] = tensor
            return tensor.near
        return tensor

    def wrapped(tensor: Tensor) -> Tensor:
        if id(tensor) in wrappers:  # what changes a tensor in place returns it
            return wrappers[id(tensor)]
        return Distant(tensor) if distant else tensor

    inference = torch.is_inference_mode_enabled()
    if inference and distant and any(made.alias_info for made in func._schema.returns):
        inference = all(tensor.is_inference() for tensor in tensors)  # views are of the kind of what they show
    args, kwargs = _changed(near, (args, kwargs))
    out = func(*args, **kwargs)
    with torch.inference_mode(inference):
        return _changed(wrapped, out)


def _changed(change: Callable[[Tensor], Any], tree: Any) -> Any:
    """All tensors of an operation's arguments or results changed. torch's own trees take ten times as long."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {name: _changed(change, branch) for name, branch in tree.items()}
    if isinstance(tree, (list, tuple)) and not isinstance(tree, torch.Size):
        return type(tree)([_changed(change, branch) for branch in tree])
    return tree


class Backend:
    """What torch asks of the module `torch.second`."""

    def is_initialized(self) -> bool:
        return True

    is_available = is_initialized

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


def install() -> torch.device:
    """Make the device known to torch. Needs AVAILABLE."""
    if not _installed:
        backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
        torch.utils._device._device_constructors()  # remembers the functions that are replaced now
        for name in ("tensor", "as_tensor"):
            setattr(torch, name, _made_near(getattr(torch, name)))
        _installed.append(torch.library.Library("_", "IMPL"))
        _installed[0].fallback(lambda func, *args, **kwargs: run(func, args, kwargs), "PrivateUse1")
    return torch.device(NAME, 0)


def _is_distant(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _made_near(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor and torch.as_tensor build with this dispatch switched off, which ends in an error."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if _is_distant(device):
            return make(data, *args, device="cpu", **kwargs).to(device)
        return make(data, *args, device=device, **kwargs)

    return made
