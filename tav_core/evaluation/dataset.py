"""Data sets of edits: LOVEU-TGVE-2023's layout (github.com/showlab/loveu-tgve-2023), or a plain list in a CSV.

    data/LOVEU-TGVE-2023_Dataset.csv                                     edits/
      Video name, Our GT caption, Style Change Caption, ...                DAVIS_480p/gold-fish/style/00000.jpg ...
    data/DAVIS_480p/480p_frames/gold-fish/00000.jpg ...                    DAVIS_480p/gold-fish/object/00000.jpg ...

A folder of frames may be replaced by a video of the same name (480p_videos/gold-fish.mp4, gold-fish/style.mp4).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

KINDS = ("style", "object", "background", "multiple")
_CAPTIONS = {kind: f"{kind.capitalize()} Change{'s' * (kind == 'multiple')} Caption" for kind in KINDS}
_PLAIN = ("source", "edit", "source_prompt", "prompt")
_VIDEOS = (".mp4", ".gif", ".webm", ".mkv", ".avi", ".mov")


@dataclass(frozen=True)
class Item:
    """One edit: the name of its video, the kind of edit, the files, the source's caption and the edit's prompt."""

    video: str
    kind: str
    source: Path
    edit: Path
    source_prompt: str | None
    prompt: str


def read_dataset(dataset: Path, edits: Path | None = None) -> list[Item]:
    """All edits of a data set.

    Arguments:
        dataset: a folder with one CSV in it, or the CSV. Its columns are LOVEU-TGVE's, or source, edit, source_prompt
            and prompt, with paths relative to the CSV.
        edits: folder of the edits, which LOVEU-TGVE's CSV does not name.

    Raises:
        ValueError: if the CSV, a source or an edit is missing, or the columns are other ones.
    """
    table = find_table(dataset)
    rows, columns = _read_table(table)
    if set(_PLAIN) <= set(columns):
        items = [_plain_item(table, number, row) for number, row in enumerate(rows, 2)]
    elif {"Video name", "Our GT caption", *_CAPTIONS.values()} <= set(columns):
        if edits is None:
            raise ValueError("LOVEU-TGVE's table does not name the edits: give their folder as --edits.")
        # Rows without a caption are the headings of its three parts.
        items = [item for row in rows if row["Our GT caption"].strip() for item in _loveu_items(table, edits, row)]
    else:
        raise ValueError(f"{table} has the columns {columns}. Expected {list(_PLAIN)}, or those of LOVEU-TGVE-2023.")
    if not items:
        raise ValueError(f"{table} names no edits. Fill in a row for each.")
    missing = [path for item in items for path in (item.source, item.edit) if not path.exists()]
    if missing:
        raise ValueError(f"{len(missing)} files that {table} names are missing. The first is {missing[0]}.")
    return items


def find_table(dataset: Path) -> Path:
    """The CSV of a data set.

    Raises:
        ValueError: if a folder holds none, or several.
    """
    tables = [dataset] if dataset.is_file() else sorted(dataset.glob("*.csv"))
    if len(tables) != 1:
        raise ValueError(f"{dataset} holds {len(tables)} CSV files and should hold one. Give the CSV itself.")
    return tables[0]


def _read_table(table: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows by column, and the columns. Missing cells are empty."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            return list(reader), list(reader.fieldnames or [])
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not in UTF-8: save it as CSV UTF-8.") from error


def _plain_item(table: Path, number: int, row: dict[str, str]) -> Item:
    if empty := [column for column in ("source", "edit", "prompt") if not row[column].strip()]:
        raise ValueError(f"Row {number} of {table} has no {' and no '.join(empty)}. Fill it in, or take the row out.")
    source, edit = table.parent / row["source"], table.parent / row["edit"]
    return Item(source.stem, row.get("kind") or edit.stem, source, edit, row["source_prompt"] or None, row["prompt"])


def _loveu_items(table: Path, edits: Path, row: dict[str, str]) -> list[Item]:
    name, caption = row["Video name"].strip(), row["Our GT caption"].strip()
    found = sorted(path for path in table.parent.glob("*/480p_*/*") if name in (path.name, path.stem))
    if not found:
        raise ValueError(f"There is no source {table.parent / '*' / '480p_frames' / name}. Unpack the whole data set.")
    part = found[0].parents[1].name  # 480p_frames comes before 480p_videos
    return [
        Item(name, kind, found[0], _folder_or_video(edits / part / name / kind), caption, row[column].strip())
        for kind, column in _CAPTIONS.items()
    ]


def _folder_or_video(path: Path) -> Path:
    videos = [video for suffix in _VIDEOS if (video := path.with_suffix(suffix)).is_file()]
    return path if path.is_dir() or not videos else videos[0]
