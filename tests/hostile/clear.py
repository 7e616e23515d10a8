"""The rule for hostile input: it works, or raises an expected type of error with one clear sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

EXPECTED = (ValueError, TypeError, OSError, RuntimeError, FloatingPointError)


@contextmanager
def clear_error(*names: str) -> Iterator[None]:
    """Let an error of the expected kinds pass for success, if it is one line of text that holds one of the names."""
    try:
        yield
    except EXPECTED as error:
        text = str(error)
        assert "\n" not in text.replace("\\n", "") and 15 <= len(text) <= 1000, (
            f"unclear {type(error).__name__}: {text!r}"
        )
        assert not names or any(name in text for name in names), f"{names} not named: {text!r}"
