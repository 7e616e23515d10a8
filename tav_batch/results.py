"""The results of a batch, a row per edit: results.parquet and results.csv, which are rewritten while it runs.

Records go to a spool on the disk and not into memory, so that the driver stays as small as it began.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tav_core.metrics import MEASURES

from .record import CSV, FAILED, PARQUET, Record
from .storage import Folder

SHARE = 0.02  # of the time that rewriting may take
EVERY = 5.0  # seconds at least from one rewriting to the next
CHUNK = 100  # rows in memory
STAGES = ("tune", "invert", "sample", "decode", "deflicker", "evaluate", "all")
PENDING = "pending"
OWN: dict[str, str] = {"name": "string", "status": "string", "file": "string", "error": "string"}
OWN_LAST = dict.fromkeys((*MEASURES, *(f"seconds_{stage}" for stage in STAGES)), "double")
OWN_LAST |= {"peak_memory_bytes": "int64", "used_seed": "int64", "used_strength": "double", "frames_sha256": "string"}
OWN_LAST |= {"versions": "string", "host": "string", "attempt": "int64"}


class Results:
    """Takes records as rows end, and keeps the two files up to date.

    Arguments:
        folder: of the two files.
        names: of all rows' edits, by number.
        rows: the table's cells by column, for each row.
        columns: of the table.
    """

    def __init__(self, folder: Folder, names: Sequence[str], rows: Sequence[Any], columns: Sequence[str]):
        self._folder, self._names, self._rows = folder, names, rows
        taken = {*OWN, *OWN_LAST}
        self._columns = {  # of the results, by the table's, which may be the results of another batch
            f"table_{name}" if name in taken else name: name for name in columns if name != "name"
        }
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._places: dict[int, int] = {}  # in the spool, of each row's last record
        self._failed: set[int] = set()
        self._written, self._cost = time.monotonic(), 0.0

    @property
    def num_done(self) -> int:
        """Rows that ended, failed ones included."""
        return len(self._places)

    @property
    def num_failed(self) -> int:
        """Rows that failed."""
        return len(self._failed)

    def name_of(self, number: int) -> str:
        """The name of a row's edit."""
        return self._names[number]

    def add(self, number: int, record: Record) -> None:
        """Take the record of a row, in place of an earlier one."""
        self._spool.seek(0, io.SEEK_END)
        self._places[number] = self._spool.tell()
        self._spool.write(json.dumps(record).encode() + b"\n")
        (self._failed.add if record["status"] == FAILED else self._failed.discard)(number)

    def records(self) -> Iterator[tuple[int, Record | None]]:
        """All rows in order, each with its record; None for one that has not ended."""
        for number in range(len(self._names)):
            if (place := self._places.get(number)) is None:
                yield number, None
            else:
                self._spool.seek(place)
                yield number, json.loads(self._spool.readline())

    def write_if_due(self) -> None:
        """Rewrite the files unless that was done a moment ago, or would take too much of the time."""
        since = time.monotonic() - self._written
        if since >= EVERY and self._cost <= SHARE * since:
            self.write()

    def write(self) -> None:
        """Rewrite both files.

        Raises:
            OSError: if they cannot be written.
        """
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            parquet, table = Path(scratch, PARQUET), Path(scratch, CSV)
            self._write_files(parquet, table)
            for file in (parquet, table):
                self._folder.put(file.name, file)
        self._written, self._cost = time.monotonic(), time.monotonic() - began

    def _write_files(self, parquet: Path, table: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._schema()
        with pq.ParquetWriter(parquet, schema) as writer, table.open("w", newline="", encoding="utf-8") as file:
            sheet = csv.DictWriter(file, schema.names)
            sheet.writeheader()
            chunk: list[dict[str, Any]] = []
            for number, record in self.records():
                chunk.append(self._line(number, record))
                if len(chunk) == CHUNK or number == len(self._names) - 1:
                    writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
                    sheet.writerows(chunk)
                    chunk = []

    def _schema(self) -> Any:
        import pyarrow as pa

        kinds = OWN | dict.fromkeys(self._columns, "string") | OWN_LAST
        return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in kinds.items()])

    def _line(self, number: int, record: Record | None) -> dict[str, Any]:
        """A row of the files: the table's cells, then what came of it."""
        values = self._rows[number].values
        line: dict[str, Any] = {column: _cell(values.get(name)) for column, name in self._columns.items()}
        line |= {"name": self._names[number], "status": PENDING}
        if record is None:
            return line
        line |= {name: record.get(name) for name in ("status", "file", "error", "frames_sha256", "host", "attempt")}
        line |= {name: value for name, value in record.get("metrics", {}).items() if name in MEASURES}
        line |= {f"seconds_{stage}": record.get("seconds", {}).get(stage) for stage in STAGES}
        line |= {"peak_memory_bytes": record.get("peak_memory_bytes"), "used_seed": record.get("seed")}
        versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
        return line | {"used_strength": record.get("strength"), "versions": versions or None}


def _cell(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str)
