"""What makes the fields of a job, options of the command line with their help, and the settings that they change."""

from __future__ import annotations

from argparse import ArgumentTypeError, BooleanOptionalAction
from dataclasses import dataclass, field
from typing import Any

from ..editing.config import InversionConfig, SamplingConfig
from ..tuning.config import TuningConfig

AUTO = "auto"


@dataclass(frozen=True)
class Settings:
    """The settings of each stage."""

    tuning: TuningConfig
    inversion: InversionConfig
    sampling: SamplingConfig


def number_or_auto(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError:
        raise ArgumentTypeError(f"a number or auto is expected, not {text!r}") from None


def option(default: Any, text: str, **argument: Any) -> Any:
    """A field of a job that is an option of the command line too: what argparse takes, its help among it."""
    return field(default=default, metadata={"argument": {"help": text} | argument})


def repeated(text: str, kind: type | None = None) -> Any:
    """An option that may be given several times: a tuple, or None."""
    return option(None, text, action="append", **({} if kind is None else {"type": kind}))


def setting(
    kind: type, text: str, *stages: str, name: str | None = None, choices: tuple[str, ...] | None = None
) -> Any:
    """An option that overrides a setting of some stages; None leaves it to the preset.

    Arguments:
        name: of the setting, where it is not that of the option.
        choices: the values that it takes; None for all of its kind.
    """
    argument: dict[str, Any] = {"action": BooleanOptionalAction} if kind is bool else {"type": kind}
    argument |= {"choices": choices} if choices else {}
    metadata = {"argument": {"help": text} | argument, "stages": stages, "setting": name}
    return field(default=None, metadata=metadata)
