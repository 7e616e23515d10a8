"""A job as a JSON file, which `edit --job FILE` repeats, and its fields from plain values such as a table's cells."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError, BooleanOptionalAction
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..checks import check_text, shown
from ..models.base import DEMO_MODEL
from .controls import HINTS
from .job import EditJob

FORMAT, VERSION = "tune-a-video-job", 1
SUFFIX = ".job.json"
PATHS = ("video", "more_video", "output", "model", "mask", "store", "heat_maps", "report", "control", "hint")  # fields
NAMES = (DEMO_MODEL, *HINTS)  # that stand where a path may
MAX_BYTES = 10**6  # of a job file
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
OPTIONS: dict[str, Field] = {option.name: option for option in fields(EditJob)}


class FieldError(ValueError):
    """A field of a job has a wrong value. Attributes: field, its name; the message has value and remedy."""

    def __init__(self, name: str, message: str):
        super().__init__(message)
        self.field = name


def job_path(output: Path) -> Path:
    """Where the job of an edit lies: beside the video, under its name (edit.mp4 -> edit.job.json)."""
    return output.with_name(f"{output.stem}{SUFFIX}")


def job_values(job: EditJob) -> dict[str, Any]:
    """The fields of a job that differ from their defaults, as JSON takes them, with absolute paths."""
    values: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        value = getattr(job, name)
        if value == option.default or value is None:
            continue
        values[name] = [_plain(name, one) for one in value] if isinstance(value, (list, tuple)) else _plain(name, value)
    return values


def _plain(name: str, value: Any) -> Any:
    """One value of a field as JSON takes it."""
    is_path = name in PATHS and value not in NAMES and "://" not in str(value)
    plain = isinstance(value, (bool, int, float, str)) and not is_path
    return value if plain else str(Path(value).absolute() if is_path else value)


def job_text(job: EditJob) -> str:
    """The content of a job file."""
    return json.dumps({"format": FORMAT, "version": VERSION, "job": job_values(job)}, indent=2) + "\n"


def write_job(job: EditJob) -> Path:
    """Write a job beside its video. Returns the file, which is complete or not there at all.

    Raises:
        OSError: if it cannot be written.
    """
    path = job_path(Path(job.output))
    write_text(path, job_text(job))
    return path


def read_job(path: Path) -> dict[str, Any]:
    """The fields of a job file. Relative paths in it start from its folder.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is no job file, or a field is unknown or has a wrong value.
    """
    try:
        with path.open("rb") as file:
            read = json.loads(file.read(MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON of at most {MAX_BYTES} bytes ({error}): give the .job.json.") from error
    if not isinstance(read, dict) or (read.get("format"), read.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{path} is no job of this version: give the .job.json that lies beside an edit.")
    values = read.get("job")
    if not isinstance(values, dict):
        raise ValueError(f'{path} has no "job": give the .job.json that lies beside an edit.')
    try:
        return parsed_fields(values, path.parent)
    except FieldError as error:
        raise ValueError(f"{path}: {error}") from error


def parsed_fields(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Fields of a job from plain values: numbers, booleans and text, which may spell a number or a boolean.

    A field that may be given several times is a list, or text with a semicolon between two values.

    Arguments:
        values: by field; None stands for the default.
        folder: where relative paths start.

    Raises:
        FieldError: if a field is unknown or has a wrong value.
    """
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in OPTIONS:
            raise FieldError(name, f"{shown(name)} is no field of a job: take one of {', '.join(OPTIONS)}.")
        if value is None:
            continue
        parsed[name] = field_value(name, value)
        if name in PATHS:
            found = parsed[name]
            several = isinstance(found, tuple)
            parsed[name] = tuple(_placed(one, folder) for one in found) if several else _placed(found, folder)
    return parsed


def _placed(path: Any, folder: Path) -> Any:
    """A path from a folder, unless it is a name or an address."""
    return path if path in NAMES or "://" in str(path) else folder / path


def field_value(name: str, value: object) -> Any:
    """One field of a job from a plain value.

    Raises:
        FieldError: if the field does not take it.
    """
    argument = OPTIONS[name].metadata["argument"]
    if argument.get("action") is BooleanOptionalAction:
        return _boolean(name, value)
    if argument.get("action") == "append":
        values = value if isinstance(value, (list, tuple)) else _text(name, value).split(";")
        return tuple(_parsed(name, argument, one) for one in values)
    return _parsed(name, argument, value)


def _parsed(name: str, argument: Mapping[str, Any], value: object) -> Any:
    kind, choices = argument.get("type", str), argument.get("choices")
    try:
        parsed = _number(kind, value) if kind in (int, float) else kind(_text(name, value))
    except (ValueError, TypeError, ArgumentTypeError) as error:
        reason = str(error).rstrip(".") if isinstance(error, (FieldError, ArgumentTypeError)) else _expected(kind)
        raise FieldError(name, f"{name} is {shown(value)}: {reason}.") from error
    if choices is not None and parsed not in choices:
        raise FieldError(name, f"{name} is {shown(value)}: take one of {', '.join(choices)}.")
    return parsed


def missing_fields(values: Mapping[str, Any]) -> list[str]:
    """The fields without a default that are not given."""
    return [name for name, option in OPTIONS.items() if option.default is MISSING and name not in values]


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if (found := WORDS.get(str(value).strip().lower())) is None:
        raise FieldError(name, f"{name} is {shown(value)}: write true or false.")
    return found


def _number(kind: type, value: object) -> int | float:
    if isinstance(value, bool):
        raise ValueError
    if kind is int and isinstance(value, Real) and not isinstance(value, Integral):
        if not float(value).is_integer():
            raise ValueError
        return int(float(value))
    return kind(value)


def _text(name: str, value: object) -> str:
    """Text, or a number where text may spell one, as strengths do."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return f"{float(value)!r}"
    check_text(name, value)
    return str(value)


def _expected(kind: object) -> str:
    names = {int: "a whole number is expected", float: "a number is expected"}
    return names.get(kind, "text is expected")  # type: ignore[call-overload]
