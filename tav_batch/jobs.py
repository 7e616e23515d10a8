"""Each row of a table checked and made an `EditJob`, before anything runs."""

from __future__ import annotations

import hashlib
import json
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from tav_core.checks import shown
from tav_core.job import EditJob
from tav_core.job.check import check_job
from tav_core.job.files import NAMES, FieldError, field_value, job_values, missing_fields, parsed_fields
from tav_core.models.base import DEMO_MODEL
from tav_core.tuning.config import TuningConfig

from .record import CSV, PARQUET, REPORT
from .storage import file_mark, is_remote
from .table import Row, TableError

OF_THE_BATCH = {  # fields that the batch decides, and what to give in their place
    "output": "column name, and --output",
    "store": "--store",
    "device": "--device",
    "report": "results.parquet, which has what it would hold",
    "heat_maps": "edit --job FILE --heat-maps NAME.mp4 afterwards",
}
REQUIRED = ("video", "source_prompt", "prompt")
PATHS = ("video", "mask", "model")  # columns
LISTS = ("control", "hint", "more_video")  # columns of several paths
LOCAL = ("model", "control", "hint", "more_video")  # columns that take no URL
LONGEST_NAME, LONGEST_PATH = 200, 1000  # bytes of a file's name, of which file systems take 255; characters
NOT_IN_NAMES = set('<>:"\\|?*')  # on Windows
RESERVED = (".job", ".result")  # ends of names that the batch's own files have
OF_THE_OUTPUT = (PARQUET, CSV, REPORT)  # which are no folders
FIELDS = frozenset(EditJob.__dataclass_fields__)


class RowError(ValueError):
    """A row cannot be run. Attributes: column, empty if it is the whole row."""

    def __init__(self, column: str, message: str):
        super().__init__(message)
        self.column = column


@dataclass(frozen=True, slots=True)
class Checked:
    """A row that was checked.

    Attributes:
        number: of the row, from 0.
        name: of the edit; the row's number from 1 where the table has none.
        digest: of the job and of the files that it reads, by which a rerun finds what is done.
        group: of the rows that share clip, caption and tuning.
        model: that it runs on.
        fault: line, column and remedy; empty if the row can run.
    """

    number: int
    name: str
    digest: str = ""
    group: str = ""
    model: str = ""
    fault: str = ""


@dataclass
class Rows:
    """The rows of a table, and the jobs that they make.

    Arguments:
        rows: of the table.
        folder: where relative paths start; may be a URL.
        defaults: plain values of fields for all rows.
        suffix: of the videos.
        allowed: folders and URLs that paths of the table must lie in; empty for no limit.
    """

    rows: list[Row]
    folder: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ".mp4"
    allowed: tuple[str, ...] = ()
    _marks: dict[str, tuple[str, str]] = field(default_factory=dict)  # of files, each with its fault

    def __post_init__(self) -> None:
        given = {name for row in self.rows for name in row.values} | {*self.defaults}
        for name, remedy in OF_THE_BATCH.items():
            if name in given:
                raise TableError(f"The batch decides {name}: leave it out of the table, and give {remedy}.")
        missing = [name for name in REQUIRED if name not in given]
        if missing and not any(row.fault for row in self.rows):
            raise TableError(f"The table has no column {', '.join(missing)}: its columns are the fields of edit.")
        if unknown := sorted({*self.defaults} - FIELDS):
            raise TableError(f"--set {unknown[0]}: there is no such option of edit.")

    @cached_property
    def columns(self) -> list[str]:
        """All columns, in the order in which they are first seen."""
        return list(dict.fromkeys(name for row in self.rows for name in row.values))

    def name_of(self, number: int) -> str:
        """The name of a row's edit, as the table gives it."""
        return str(self.rows[number].values.get("name", number + 1))

    def video_of(self, number: int) -> str | None:
        """The path or URL of a row's clip; None where the row has none that may be read."""
        try:
            return self._resolved("video", str(self.rows[number].values["video"]))
        except (KeyError, RowError):
            return None

    def job(self, number: int, output: Path, device: str = "cpu") -> EditJob:
        """The job of a row.

        Raises:
            RowError: if a cell has a wrong value.
        """
        values = {**self.defaults, **{k: v for k, v in self.rows[number].values.items() if k in FIELDS}}
        try:
            parsed = parsed_fields({k: v for k, v in values.items() if k not in PATHS}, Path())
            parsed |= {k: self._resolved(k, field_value(k, values[k])) for k in PATHS if k in values}
            for name in (name for name in LISTS if parsed.get(name)):
                parts = [str(part) for part in parsed[name]]
                parsed[name] = tuple(part if part in NAMES else self._resolved(name, part) for part in parts)
        except FieldError as error:
            raise RowError(error.field, str(error)) from error
        parsed |= {"output": output, "device": device}
        if missing := missing_fields(parsed):
            raise RowError(missing[0], f"{missing[0]} is empty: fill it in.")
        return EditJob(**parsed)

    def job_values(self, number: int) -> dict[str, Any]:
        """The fields of a row's job as plain values, without output and device."""
        values = job_values(self.job(number, Path("edit")))
        return {name: value for name, value in values.items() if name not in OF_THE_BATCH}

    def check(self) -> list[Checked]:
        """Check all rows; one that cannot run has a fault."""
        checked: list[Checked] = []
        names: dict[str, int] = {}
        with tempfile.TemporaryDirectory() as scratch:
            for number, row in enumerate(self.rows):
                name = self.name_of(number)
                try:
                    if row.fault:
                        raise RowError("", row.fault)
                    _check_name(name)
                    spelled = unicodedata.normalize("NFC", name).casefold()  # as file systems may take it for the same
                    if (other := names.setdefault(spelled, row.line)) != row.line:
                        raise RowError("name", f"{name} is the name of line {other} too: give another.")
                    checked.append(self._checked(number, name, Path(scratch) / f"edit{self.suffix}"))
                except RowError as error:
                    column = f", column {error.column}" if error.column else ""
                    checked.append(Checked(number, name, fault=f"Line {row.line}{column}: {error}"))
        return checked

    def _checked(self, number: int, name: str, probe: Path) -> Checked:
        job = self.job(number, probe)
        try:
            _check(job)
            if not (job.source_prompt.strip() and job.prompt.strip()):
                raise RowError("prompt" if job.source_prompt.strip() else "source_prompt", "it is empty: fill it in.")
        except RowError:
            raise
        except (OSError, TypeError, ValueError) as error:
            raise RowError(self._column_of(error, number, probe), str(error)) from error
        marks = {path: self._mark(column, path) for column in (*PATHS, *LISTS) for path in _paths(getattr(job, column))}
        digest = _digest([self.job_values(number), list(marks.values())])
        return Checked(number, name, digest, tuning_key(job, marks), str(job.model))

    def _resolved(self, column: str, value: str) -> str:
        if column == "model" and value == DEMO_MODEL:
            return value
        if "\0" in value:
            raise RowError(column, f"{shown(value)} is no path: check its name.")
        remote = is_remote(value)
        if remote or not is_remote(self.folder):
            path = value if remote else str(Path(self.folder, value).absolute())
        else:
            path = f"{self.folder}/{value}"
        if self.allowed and not any(_within(path, folder) for folder in self.allowed):
            raise RowError(column, f"{value} lies outside of --allow-dir: move it there, or allow its folder.")
        return path

    def _mark(self, column: str, path: str | Path) -> str:
        """The mark of a file, read once."""
        key = str(path)
        if key in NAMES:
            return ""
        if column in LOCAL and is_remote(key):
            raise RowError(column, f"{key} is no local path: copy it to a disk that all workers reach.")
        if key not in self._marks:
            self._marks[key] = _mark_or_fault(key)
        mark, fault = self._marks[key]
        if fault:
            raise RowError(column, fault)
        return mark

    def _column_of(self, error: Exception, number: int, probe: Path) -> str:
        """The column that an error is about: that which raises it alone, or whose name it says."""
        given = [name for name in self.rows[number].values if name in FIELDS and name not in PATHS]
        job = self.job(number, probe)
        plain = EditJob(video=job.video, source_prompt="a", prompt="b", output=probe, model=job.model)
        for name in given:
            try:
                _check(replace(plain, **{name: getattr(job, name)}))
            except (OSError, TypeError, ValueError) as alone:
                if str(alone) == str(error):
                    return name
        words = str(error).replace("--", "").replace("-", "_")
        named = [name for name in self.rows[number].values if name in FIELDS and name in words]
        return min(named, key=words.index, default="")


def _mark_or_fault(path: str) -> tuple[str, str]:
    """The mark of a file, and why it cannot be read; one of them is empty."""
    try:
        return file_mark(path), ""
    except FileNotFoundError:
        return "", f"there is no {path}: check its name."
    except Exception as error:  # of the file system's own kind, such as missing credentials
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return "", f"{path} cannot be read ({text}): check its name, and who may read it."


def _check(job: EditJob) -> None:
    check_job(job)
    job.settings()  # makes the configs, which check their values


def tuning_key(job: EditJob, marks: Mapping[str, str]) -> str:
    """Equal for jobs that share clip, caption, model and tuning. Checkpointing does not count.

    Arguments:
        job: of a row.
        marks: of the files that it reads, by path.
    """
    tuning = asdict(replace(job.settings().tuning, gradient_checkpointing=TuningConfig.gradient_checkpointing))
    clip: list[Any] = [job.video, job.start, job.fps, job.num_frames, job.width, job.height, job.source_prompt]
    files, controls = [*_paths(job.video), *_paths(job.model), *_paths(job.more_video)], []
    clip += [job.more_video, job.more_source_prompt] if job.more_video else []
    if job.control and job.control_tuning:
        files += [*_paths(job.control), *_paths(job.hint)]
        controls = [job.control, job.hint, job.control_scale, job.control_start, job.control_end]
    return _digest([*clip, job.model, job.dtype, job.lora_rank, tuning, *controls, [marks[path] for path in files]])


def _paths(value: Any) -> list[str]:
    """The paths of a field: one, several or none."""
    return [] if value is None else [str(path) for path in (value if isinstance(value, tuple) else (value,))]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    strange = NOT_IN_NAMES & {*name} or any(not letter.isprintable() for letter in name)
    long = any(len(part.encode(errors="replace")) > LONGEST_NAME for part in path.parts) or len(name) > LONGEST_PATH
    if strange or long or path.is_absolute() or ".." in path.parts or str(path) != name or not path.name:
        raise RowError("name", f"{shown(name)} cannot name a file in the output: take letters, digits, - and _.")
    ends = any(part.startswith(".") or part.endswith(".") or part != part.strip() for part in path.parts)
    if ends or name.endswith(RESERVED) or path.parts[0] in OF_THE_OUTPUT:
        raise RowError("name", f"{shown(name)} may not begin or end so: take letters, digits, - and _.")


def _within(path: str, folder: str) -> bool:
    if is_remote(path) or is_remote(folder):
        parts = path.split("/")
        return is_remote(path) and ".." not in parts and f"{path}/".startswith(f"{folder.rstrip('/')}/")
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def parse_settings(texts: Iterable[str]) -> dict[str, str]:
    """FIELD=VALUE, each, as --set takes them.

    Raises:
        ValueError: if a text has no "=".
    """
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, not {text!r}.")
        settings[name.strip().replace("-", "_")] = value.strip()
    return settings
