"""The rule for hostile input: it works, or tav_core raises one clear sentence of its own and changes nothing."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

import tav_core

EXPECTED = (ValueError, TypeError, OSError, RuntimeError, FloatingPointError)
CORE = Path(tav_core.__file__).parent


@contextmanager
def clear_error(*names: str, unchanged: nn.Module | None = None) -> Iterator[None]:
    """Let an error pass for success.

    It is one of the expected kinds, comes from a `raise` of tav_core, and is one line of text.

    Arguments:
        names: the text has to hold one of them.
        unchanged: a module that the failed call must not have changed.
    """
    before = snapshot(unchanged)
    try:
        yield
    except EXPECTED as error:
        text = str(error)
        assert "\n" not in text.replace("\\n", "") and 15 <= len(text) <= 1000, (
            f"unclear {type(error).__name__}: {text!r}"
        )
        assert not names or any(name in text for name in names), f"{names} not named: {text!r}"
        assert is_raised_by_the_core(error), f"not raised by tav_core: {type(error).__name__}: {text!r}"
        assert same(before, snapshot(unchanged)), f"changed before it failed: {text!r}"


def is_raised_by_the_core(error: BaseException) -> bool:
    """Whether the innermost frame of an error stands at a `raise` of tav_core, or of its caller for it."""
    place = error.__traceback__
    assert place is not None
    while place.tb_next is not None:
        place = place.tb_next
    path = Path(place.tb_frame.f_code.co_filename)
    return path.is_relative_to(CORE) and _raises(path, place)


def _raises(path: Path, place: TracebackType) -> bool:
    return any(first <= place.tb_lineno <= last for first, last in _raise_statements(path))


@cache
def _raise_statements(path: Path) -> list[tuple[int, int]]:
    """First and last line of each `raise` with an error of its own; a bare one passes on that of another library."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [(node.lineno, node.end_lineno or 0) for node in nodes if isinstance(node, ast.Raise) and node.exc]


State = list[tuple[str, object]]


def snapshot(module: nn.Module | None) -> State:
    """All that a failed call must leave as it was: weights, flags, modes, and the settings of an inflated model."""
    if module is None:
        return []
    state: State = [(f"mode {name}", part.training) for name, part in module.named_modules()]
    for name, parameter in module.named_parameters():
        state += [(f"flag {name}", parameter.requires_grad), (name, parameter.detach().clone())]
    context = getattr(module, "context", None)
    return [*state, ("context", (context.checkpointing, context.control) if context else None)]


def same(one: State, other: State) -> bool:
    """Whether two snapshots are equal, to the bit."""
    equal: dict[bool, Callable[[object, object], bool]] = {True: torch.equal, False: lambda a, b: a == b}
    pairs = zip(one, other, strict=True)
    return all(a[0] == b[0] and equal[isinstance(a[1], torch.Tensor)](a[1], b[1]) for a, b in pairs)
