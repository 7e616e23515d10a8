"""The rows of a table of edits: CSV, JSONL or Parquet, or a data set in its own layout.

A row that cannot be read keeps its line and what is wrong with it; the others are read nevertheless.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .layouts import LOVEU_COLUMNS, loveu_rows, v2vbench_rows
from .storage import is_remote, open_binary

MAX_LINE = 10**6  # characters of a line of JSONL
KINDS = ".csv, .jsonl, .ndjson, .parquet, .yaml (V2VBench), or the folder of a data set"


class TableError(ValueError):
    """The table as a whole cannot be used."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        line: of the file, from 1; of Parquet the row, from 1.
        values: by column; empty cells are left out.
        fault: why the row cannot be read; empty if it can.
    """

    line: int
    values: dict[str, Any]
    fault: str = ""


def read_table(path: str) -> tuple[list[Row], str]:
    """All rows, and the folder where their relative paths start.

    Raises:
        OSError: if there is no such file.
        TableError: if it is no table of edits.
    """
    path = _table_of(path)
    folder, suffix = path.rpartition("/")[0] or ".", Path(path).suffix.lower()
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".parquet": _read_parquet}
    if suffix in (".yaml", ".yml"):
        rows = [Row(*found) for found in v2vbench_rows(path)]
    elif suffix in readers:
        rows = list(readers[suffix](path))
    else:
        raise TableError(f"{path} is no table: give {KINDS}.")
    columns = {name for row in rows for name in row.values}
    if columns >= LOVEU_COLUMNS:
        rows = [Row(*found) for found in loveu_rows(path, rows)]
    if not rows:
        raise TableError(f"{path} has no rows: write one for each edit.")
    return rows, folder


def _table_of(path: str) -> str:
    """The table in the folder of a data set."""
    if is_remote(path) or not Path(path).is_dir():
        return path
    found = [str(file) for pattern in ("*.csv", "*.yaml") for file in sorted(Path(path).glob(pattern))]
    if len(found) != 1:
        raise TableError(f"{path} holds {len(found)} tables (.csv, .yaml) and should hold one: give the file itself.")
    return found[0]


def _read_csv(path: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE)
    with open_binary(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            columns = _columns(next(reader, []), path)
            while True:
                line = reader.line_num + 1
                try:
                    cells = next(reader, None)
                except csv.Error as error:  # such as a quote without its end
                    yield Row(line, {}, f"{error}: save the table as plain CSV.")
                    continue
                if cells is None:
                    return
                if cells:
                    yield _csv_row(line, columns, cells)
        except UnicodeDecodeError as error:
            raise TableError(f"{path} is not in UTF-8: save it as CSV UTF-8.") from error
        except csv.Error as error:
            raise TableError(f"{path}, line {reader.line_num}: {error}. Save it as plain CSV.") from error


def _columns(head: list[str], path: str) -> list[str]:
    """The names of columns; one without a name, such as after a comma at the end, has its number."""
    columns = [name.strip() or f"column {number}" for number, name in enumerate(head, 1)]
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise TableError(f"{path} has two columns {twice!r}: rename one.")
    return columns


def _csv_row(line: int, columns: list[str], cells: list[str]) -> Row:
    if len(cells) > len(columns):
        return Row(line, {}, f"{len(cells)} cells in {len(columns)} columns: put text with commas in quotes.")
    return Row(line, {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip()})


def _read_jsonl(path: str) -> Iterator[Row]:
    with open_binary(path) as file:
        for line, content in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
            if len(content) > MAX_LINE:
                while content and not content.endswith(b"\n"):
                    content = file.readline(MAX_LINE)
                yield Row(line, {}, f"the line is longer than {MAX_LINE} bytes: write one edit a line.")
            elif content.strip():
                yield _json_row(line, content)


def _json_row(line: int, content: bytes) -> Row:
    try:
        values = json.loads(content.decode("utf-8-sig"))
        json.dumps(values, ensure_ascii=False).encode()  # halves of a letter cannot be written
    except (ValueError, RecursionError) as error:
        return Row(line, {}, f"no JSON ({error}): write one object a line.")
    if not isinstance(values, dict):
        return Row(line, {}, "no JSON object: write one object a line.")
    return Row(line, {name: value for name, value in values.items() if value not in (None, "")})


def _read_parquet(path: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_binary(path) as file:
        try:
            line = 0
            for batch in pq.ParquetFile(file).iter_batches(1000):
                for values in batch.to_pylist():
                    line += 1
                    yield Row(line, {name: value for name, value in values.items() if value not in (None, "")})
        except pa.ArrowException as error:
            raise TableError(f"{path} is no Parquet file ({error}): write it again.") from error
