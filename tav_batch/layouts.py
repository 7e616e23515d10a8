"""Data sets of edits in the layouts that they are published in.

LOVEU-TGVE-2023 (github.com/showlab/loveu-tgve-2023): a CSV with four captions a clip; clips in PART/480p_frames/NAME or
PART/480p_videos/NAME.mp4. The edits go to PART/NAME/KIND, as a submission to it.

V2VBench (arXiv:2407.07111, github.com/wenhao728/awesome-diffusion-v2v): a YAML with `data`, a list of `video_id`, the
clip's caption as `prompt`, and `edit`, a list of `prompt`; clips are named by their `video_id`. The edits go to
VIDEO_ID/NUMBER, from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from .storage import open_binary

KINDS = ("style", "object", "background", "multiple")
CAPTIONS = {kind: f"{kind.capitalize()} Change{'s' * (kind == 'multiple')} Caption" for kind in KINDS}
LOVEU_COLUMNS = {"Video name", "Our GT caption", *CAPTIONS.values()}
VIDEOS = (".mp4", ".gif", ".webm", ".mkv", ".avi", ".mov")
MAX_YAML = 10**7  # bytes

Found = tuple[int, dict[str, Any], str]  # line, values, fault


class _Row(Protocol):
    @property
    def line(self) -> int: ...
    @property
    def values(self) -> dict[str, Any]: ...


def loveu_rows(table: str, rows: Iterable[_Row]) -> Iterator[Found]:
    """Four edits for each clip of LOVEU-TGVE's table; its rows without a caption are headings."""
    folder = Path(table).parent
    clips = {name: path for path in sorted(folder.glob("*/480p_*/*"), reverse=True) for name in (path.name, path.stem)}
    for row in rows:
        caption, name = row.values.get("Our GT caption"), row.values.get("Video name")
        if not caption:
            continue
        if name not in clips:
            missing = folder / "*" / "480p_frames" / str(name)
            yield row.line, row.values, f"column Video name: there is no clip {missing}; unpack the whole data set."
            continue
        for kind, column in CAPTIONS.items():
            values = {"video": str(clips[name].relative_to(folder)), "source_prompt": caption, "kind": kind}
            values |= {"name": f"{clips[name].parents[1].name}/{name}/{kind}", "prompt": row.values.get(column)}
            fault = "" if values["prompt"] else f"column {column} is empty: write the prompt of the edit."
            yield row.line, values, fault


def v2vbench_rows(table: str) -> Iterator[Found]:
    """The edits of V2VBench's YAML; the line is the number of the entry."""
    import yaml

    with open_binary(table) as file:
        try:
            read = yaml.safe_load(file.read(MAX_YAML))
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(f"{table} is no YAML ({error}): give V2VBench's configuration.") from error
    entries = read.get("data") if isinstance(read, dict) else read
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            f"{table} has no list `data` of entries with video_id and edit: give V2VBench's configuration."
        )
    folder = Path(table).parent
    for line, entry in enumerate(entries, 1):
        name, caption, edits = str(entry.get("video_id", "")), entry.get("prompt"), entry.get("edit")
        if not name or not isinstance(edits, list):
            yield line, {}, "no video_id or no list `edit`: complete the entry."
            continue
        clip = _clip_named(folder, name)
        for number, edit in enumerate(edits):
            prompt = edit.get("prompt") if isinstance(edit, dict) else None
            values = {"name": f"{name}/{number}", "video": clip, "source_prompt": caption, "prompt": prompt}
            fault = "" if clip else f"there is no clip {folder}/**/{name}: unpack the whole data set."
            yield line, {key: value for key, value in values.items() if value}, fault


def _clip_named(folder: Path, name: str) -> str:
    """A folder of frames or a video of this name, up to two folders below; empty without one."""
    for place in (folder, *sorted(path for pattern in ("*/", "*/*/") for path in folder.glob(pattern))):
        if (place / name).is_dir():
            return str((place / name).relative_to(folder))
        for suffix in VIDEOS:
            if (place / f"{name}{suffix}").is_file():
                return str((place / f"{name}{suffix}").relative_to(folder))
    return ""
