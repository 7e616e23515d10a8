"""Checks of arguments. Each raises one sentence with what was expected and what was given."""

import os
import reprlib
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path

import torch
from torch import Tensor

MAX_STEPS = 10**6  # of anything that is repeated; the losses of that many still fit into a file's metadata
OVERSHOOT = 0.5  # of a range, as a share of it
LONGEST_NAME = 255  # of a file: bytes on Linux, characters on Windows and macOS
MAX_SEED = 2**64 - 1
MAX_PARTS = 256  # of a path; Python makes missing folders recursively
MAX_NUMBERS = 2**31  # in a tensor: 8 GB in float32, a hundred times what a clip of the largest models takes

_SHORT = reprlib.Repr()
_SHORT.maxstring = 200  # characters: most paths in full


def check_integer(name: str, value: object, low: int, high: int, error: type[ValueError] = ValueError) -> None:
    """Raise unless a value is an integer in [low, high]; True and 2.0 are none.

    Raises:
        ValueError: or the `error` given, with the name, the limits and the value.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= int(value) <= high:
        raise error(f"{name} must be a whole number from {low} to {high}, not {shown(value)}.")


def check_number(name: str, value: object, low: float, high: float, *, without: str = "") -> None:
    """Raise unless a value is a real number in [low, high]; NaN is in no interval.

    Arguments:
        without: "low", "high" or "both": the ends that do not belong to the interval.

    Raises:
        ValueError: with the name, the interval and the value.
    """
    open_low, open_high = without in ("low", "both"), without in ("high", "both")
    if isinstance(value, Real) and not isinstance(value, bool):
        above = not value <= low if open_low else not value < low
        below = value < high if open_high else value <= high
        if above and below:
            return
    interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    raise ValueError(f"{name} must be a number in {interval}, not {shown(value)}.")


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise unless a value is one of the choices; 1 is not True.

    Raises:
        ValueError: with the name, the choices and the value.
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {shown(value)}.")


def check_type(name: str, value: object, kind: type, remedy: str = "") -> None:
    """Raise unless a value is an instance of a class.

    Raises:
        TypeError: with the name, the class, the value and the remedy.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {shown(value)}{remedy and ': '}{remedy}.")


def check_pair(name: str, value: object) -> None:
    """Raise unless a value is a tuple or list of two.

    Raises:
        ValueError: with the name and the value.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be a pair of numbers, not {shown(value)}.")


def check_text(name: str, value: object) -> None:
    """Raise unless a value is a string that can be encoded, without lone surrogates.

    Raises:
        TypeError, ValueError: with the name and the value.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {shown(value)}.")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name} must be text that can be encoded, not {shown(value)}: type it again.")


def check_path(path: object, error: type[ValueError] = ValueError) -> Path:
    """Raise unless a value can be the path of a file.

    Returns:
        The path.

    Raises:
        ValueError: or the `error` given, if it is no string or path, holds NUL or a character that cannot be encoded,
            or has more folders than Python can make.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(name := os.fspath(path), str):
        raise error(f"A path must be a string or a pathlib.Path, not {type(path).__name__}.")
    try:
        usable = bool(os.fsencode(name)) and "\0" not in name
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise error(f"{shown(name)} cannot be the name of a file: choose another path.")
    if len(Path(name).parts) > MAX_PARTS:
        raise error(f"{shown(name)} leads through more than {MAX_PARTS} folders: choose another path.")
    return Path(name)


def check_device(device: torch.device) -> None:
    """Raise unless this machine and this build of torch have a device.

    Raises:
        ValueError: with the device and torch's reason.
    """
    try:
        torch.ones(1, device=device).item()  # raises on the device "meta" too
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:  # torch raises each of these
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(f"The device {device} cannot be used here ({reason}): give another, such as cpu.") from error


def check_tensor(name: str, tensor: object) -> None:
    """Raise unless a value is a dense floating-point tensor in memory whose numbers are finite in float32.

    Raises:
        TypeError: if it is no tensor.
        ValueError: if it has another type of number, no memory, too many numbers, NaN or infinity.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {shown(tensor)}.")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating-point numbers, not {tensor.dtype}: convert them with .float().")
    if tensor.is_meta or tensor.layout is not torch.strided:
        kind = "on the meta device, without numbers" if tensor.is_meta else f"sparse ({tensor.layout})"
        raise ValueError(f"{name} must be a plain tensor in memory, not {kind}.")
    if tensor.numel() > MAX_NUMBERS:
        raise ValueError(
            f"{name} must hold at most {MAX_NUMBERS} numbers, not {tensor.numel()}: take fewer or smaller frames."
        )
    if not tensor.float().isfinite().all():
        raise ValueError(f"{name} are not finite in float32: check the step that made them.")


def check_range(name: str, tensor: Tensor, low: float, high: float) -> None:
    """Raise if numbers lie further outside of [low, high] than decoders and filters overshoot.

    Raises:
        ValueError: with the name, the range and the extremes found.
    """
    if tensor.numel():
        least, largest = (float(end) for end in tensor.detach().aminmax())
        spare = OVERSHOOT * (high - low)
        if least < low - spare or largest > high + spare:
            raise ValueError(f"{name} must lie in [{low:g}, {high:g}], not {least:g} to {largest:g}: rescale them.")


def shown(value: object) -> str:
    """A value as one short line of printable characters."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # an integer with more digits than Python prints
        text = f"a number of type {type(value).__name__}"
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def raise_unless_finite(result: Tensor, step: str) -> None:
    """Raise at a NaN or an infinity, which would spread to all later steps.

    Raises:
        FloatingPointError: with the name of the step and the remedy.
    """
    if not torch.isfinite(result).all():
        raise FloatingPointError(
            f"{step} gave numbers that are not finite. Compute in bfloat16 or float32 instead of float16; "
            "if it does, tune again with a lower learning_rate, or lower guidance_scale."
        )
