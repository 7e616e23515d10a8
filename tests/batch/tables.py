"""Tables for tests."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tav_batch.jobs import Rows
from tav_batch.table import read_table

ROOT = Path(__file__).parents[2]


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A table of rows with the same columns."""
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def edits(number: int, clips: int = 1, **cells: Any) -> list[dict[str, Any]]:
    """Rows over some clips, which are only names."""
    return [{"video": f"{n % clips}.mp4", "source_prompt": "a", "prompt": f"b{n}", **cells} for n in range(number)]


def rows_of(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Rows:
    """The rows of a table whose clips are there."""
    for row in rows:
        if row.get("video") and not (folder / row["video"]).exists():
            (folder / row["video"]).touch()
    found, base = read_table(str(write_csv(folder / "edits.csv", rows)))
    return Rows(found, base, **options)


def table_of(output: Path) -> list[dict[str, str]]:
    """The rows of results.csv."""
    with (output / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))
