"""report.html: all edits of a batch in motion, to sort and filter by their figures, beside those of another run.

The page needs nothing but the videos beside it. They load when they come into view.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tav_core.metrics import MEASURES

from .record import PARQUET, Record
from .results import PENDING, Results
from .storage import Folder, is_remote

PAGE = Path(__file__).with_name("page.html")
SECONDS = {"seconds": ("time", "s"), "peak_memory": ("peak memory", "MB")}  # figures that are no measures


def write_report(file: IO[str], results: Results, rows: Any, folder: Folder, compare: str | None = None) -> None:
    """Write the page row by row.

    Arguments:
        file: of the page.
        results: of the batch.
        rows: of the table, for captions and clips.
        folder: where the page will lie.
        compare: the output folder of another run, whose edits of the same names are shown beside.
    """
    before, after = PAGE.read_text(encoding="utf-8").split("@DATA@")
    others = {} if compare is None else dict(_other_run(compare))
    measures = [{"name": name, "label": measure.label, "unit": measure.unit} for name, measure in MEASURES.items()]
    measures += [{"name": name, "label": label, "unit": unit} for name, (label, unit) in SECONDS.items()]
    file.write(f'{before}{{"measures": {_json(measures)}, "other": {_json(compare)}, "rows": [\n')
    for number, record in results.records():
        row = _row(number, results.name_of(number), record, rows.rows[number].values)
        row["source"] = _relative(rows.video_of(number), folder)
        if (other := others.get(row["name"])) is not None and compare is not None:
            row |= {"other": other["figures"], "other_file": _relative(f"{compare}/{other['file']}", folder)}
        file.write(f"{',' if number else ''}{_json(row)}\n")
    file.write(f"]}}{after}")


def _row(number: int, name: str, record: Record | None, cells: dict[str, Any]) -> dict[str, Any]:
    row = {"number": number, "name": name, "status": PENDING, "prompt": str(cells.get("prompt", "")), "figures": {}}
    if record is None:
        return row
    figures = dict(record.get("metrics", {})) | {"seconds": record.get("seconds", {}).get("all")}
    if (peak := record.get("peak_memory_bytes")) is not None:
        figures["peak_memory"] = peak / 1e6
    row["figures"] = {key: value for key, value in figures.items() if value is not None and math.isfinite(value)}
    return row | {key: record.get(key) for key in ("status", "file", "error")}


def _other_run(place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Figures and file of each edit of another run, by name.

    Raises:
        FileNotFoundError: if it has no results.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = Folder(place).read(PARQUET)
    if content is None:
        raise FileNotFoundError(f"There is no {PARQUET} in {place}: give the --output of another batch as --compare.")
    for batch in pq.ParquetFile(pa.BufferReader(content)).iter_batches(1000):
        for line in batch.to_pylist():
            if line.get("file"):
                figures = {name: line.get(name) for name in MEASURES} | {"seconds": line.get("seconds_all")}
                kept = {key: value for key, value in figures.items() if value is not None and math.isfinite(value)}
                yield line["name"], {"figures": kept, "file": line["file"]}


def _relative(path: str | None, folder: Folder) -> str | None:
    """A file as the page names it; None for one that a browser does not reach from there."""
    if path is None or folder.remote or is_remote(path):
        return None
    try:
        return os.path.relpath(path, folder.path("."))
    except ValueError:  # another drive on Windows
        return None


def _json(value: object) -> str:
    """JSON that ends no script and no comment."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
