"""A file that takes the place of another, where other programs may hold that one, as on Windows."""

import ast
import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from tav_core import Store, read_video, write_video
from tav_core import atomic as replacing
from tav_core.atomic import write_text
from tav_core.cli.main import main
from tav_core.evaluation.dataset import Item
from tav_core.evaluation.report import write_clip_page, write_dataset_page, write_table
from tav_core.store import files, folder
from tav_core.video import VideoError, check_output, encode, png
from tav_core.viz.figures import save_curves, save_loss_plot, save_picture

FRAMES = torch.full((2, 16, 16, 3), 0.5)
KEY = f"{7:032x}"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Says of a file that another program holds it, for so many tries to replace or remove it."""
    for module in (replacing, folder, files):
        monkeypatch.setattr(module, "WINDOWS", True)
    monkeypatch.setattr(replacing, "PAUSE", 0.001)
    monkeypatch.setattr(replacing, "PATIENCE", 600)
    left: dict[Path, int] = {}

    def refuse(path: Path) -> None:
        if left.get(path):
            left[path] -= 1
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))

    really_replace, really_unlink, really_open = os.replace, Path.unlink, Path.open

    def open_(path: Path, mode: str = "r", **options: object) -> object:
        if "+" in mode:
            refuse(path)
        return really_open(path, mode, **options)

    def replace(source: Path, target: Path) -> None:
        refuse(Path(source))
        refuse(Path(target))
        really_replace(source, target)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        refuse(path)
        really_unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(Path, "open", open_)
    return left.__setitem__


@pytest.mark.parametrize("name", ["edit.mp4", "edit.gif", "frames"])
def test_a_video_that_is_let_go_of_is_replaced(tmp_path: Path, held: Callable[[Path, int], None], name: str) -> None:
    target = tmp_path / name
    write_video(target, FRAMES, 8)
    held(target, 3)
    write_video(target, torch.cat([FRAMES, FRAMES]), 8)
    assert len(read_video(target).frames) == 4 and os.listdir(tmp_path) == [name]  # noqa: PTH208


@pytest.mark.parametrize(
    ("name", "other"), [("edit.mp4", "edit-2.mp4"), ("edit.gif", "edit-1.gif"), ("frames", "frames-1")]
)
def test_a_video_that_is_open_elsewhere_stays_and_the_new_one_lies_beside(
    tmp_path: Path, held: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch, name: str, other: str
) -> None:
    monkeypatch.setattr(replacing, "PATIENCE", 0.01)
    target = tmp_path / name
    write_video(target, FRAMES, 8)
    (tmp_path / "edit-1.mp4").touch()
    held(target, 10**6)
    if target.is_file():
        with pytest.raises(VideoError, match="close the program that has it open"):
            check_output(target)
    with pytest.raises(VideoError, match=rf"is it open elsewhere\? The video is in .*{other}"):
        write_video(target, torch.cat([FRAMES, FRAMES]), 8)
    assert len(read_video(target).frames) == 2 and len(read_video(tmp_path / other).frames) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"edit-1.mp4", name, other}


def test_a_name_that_the_system_refuses_is_known_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="bytes; at most .* can be written: choose a"):
        check_output(tmp_path / f"{'a' * 300}.mp4")
    (tmp_path / "old.mp4").write_bytes(b"old")
    for name in ("new.mp4", "old.mp4", "not/yet/there.mp4"):
        check_output(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    (tmp_path / "link.mp4").symlink_to("nowhere.mp4")
    check_output(tmp_path / "link.mp4")
    assert (tmp_path / "link.mp4").is_symlink()
    assert (tmp_path / "old.mp4").read_bytes() == b"old"


def put(store: Store, key: str) -> None:
    with store._locked():
        store._put("run", key, {"a": torch.zeros(1000)}, {"about": "a test"})


def test_a_store_waits_for_an_entry_that_another_program_reads(
    tmp_path: Path, held: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    put(store, KEY)
    held(store.entries()[0].path, 3)
    put(store, KEY)
    assert store.verify() == [] and len(store.entries()) == 1
    held(store.entries()[0].path, 10**6)
    monkeypatch.setattr(replacing, "PATIENCE", 0.01)
    with pytest.raises(OSError, match="cannot be written"):
        put(store, KEY)
    assert store.verify() == []


def test_what_another_program_reads_is_not_pruned_and_not_said_to_be(
    tmp_path: Path, held: Callable[[Path, int], None]
) -> None:
    store = Store(tmp_path)
    keys = [f"{number:032x}" for number in range(3)]
    for key in keys:
        put(store, key)
    held(store.entries()[0].path, 1)
    left_behind = tmp_path / f".run-{KEY}.safetensors.01234567.tmp"
    left_behind.touch()
    held(left_behind, 1)
    assert store.prune(0) == [f"run-{key}.safetensors" for key in keys[1:]]
    assert [entry.key for entry in store.entries()] == keys[:1] and left_behind.exists()
    assert len(store.prune(0)) == 1 and not left_behind.exists()


def test_a_folder_that_refuses_files_is_told_from_one_that_is_locked(
    tmp_path: Path, held: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(folder, "TemporaryFile", refuse)
    with pytest.raises(OSError, match="Choose a folder in which files can be made"):
        put(Store(tmp_path), KEY)


@pytest.mark.parametrize("code", [39, 112])
def test_a_full_disk_is_known_in_the_words_of_windows(
    tmp_path: Path, held: Callable[[Path, int], None], code: int
) -> None:
    error = files._write_error(tmp_path / "a", {}, SafetensorError(f"I/O error: no space (os error {code})"))
    assert "The disk is full" in str(error)


def test_a_network_drive_that_flushes_no_folder_and_keeps_no_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    flush = replacing.flush
    monkeypatch.setattr(replacing, "flush", lambda path: refuse() if path.is_dir() else flush(path))
    monkeypatch.setattr(folder, "utime", refuse)
    store = Store(tmp_path)
    put(store, KEY)
    assert store.verify() == [] and len(store.entries()) == 1


def test_a_pipe_that_lacks_letters_of_a_name_ends_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "片段")
    put(store, KEY)
    store.entries()[0].path.write_bytes(b"damaged")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", write_through=True))
    assert main(["store", "verify", "--store", str(store.folder)]) == 1
    assert b"\\u7247\\u6bb5" in written.getvalue() and b"1 entries, 1 of them bad" in written.getvalue()


FIGURES = {"psnr": 30.0}
ITEM = Item("clip", "style", Path("clip.mp4"), Path("style.mp4"), "a cat", "a dog")
WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_text(path, "new"),
    "picture": lambda path: save_picture(path, FRAMES[0]),
    "loss": lambda path: save_loss_plot(path, [1.0, 2.0]),
    "curves": lambda path: save_curves(path, {"SSIM": {"edit": np.ones(2)}}),
    "table": lambda path: write_table(path, [(ITEM, FIGURES)]),
    "page of a clip": lambda path: write_clip_page(path, FRAMES, FRAMES, 8, ITEM, FIGURES, {"SSIM": {}}),
    "page of a data set": lambda path: write_dataset_page(path, [(ITEM, FIGURES)], FIGURES),
    "film": lambda path: write_video(path.with_suffix(".mp4"), FRAMES, 8),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_cannot_be_flushed_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    target = tmp_path / ("old.mp4" if name == "film" else "old")
    target.write_bytes(b"old")
    flushed = []

    def fsync(number: int) -> None:
        flushed.append(number)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises((OSError, VideoError), match="Input/output error"):
        WRITERS[name](target)
    assert flushed and target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]
    monkeypatch.undo()
    WRITERS[name](target)
    assert target.read_bytes() != b"old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", [*WRITERS, "folder"])
def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    target, events = tmp_path / "out" / ("new" if name != "film" else "new.mp4"), []
    target.parent.mkdir()
    flush, rename = replacing.flush, os.replace
    monkeypatch.setattr(replacing, "flush", lambda path: events.append(("flush", path)) or flush(path))
    for module in (encode, png):
        monkeypatch.setattr(module, "flush", replacing.flush)
    monkeypatch.setattr(os, "replace", lambda old, new: events.append(("rename", Path(old))) or rename(old, new))
    WRITERS.get(name, lambda path: write_video(path, FRAMES, 8))(target)
    assert target.exists()
    places = [place for place, (event, _) in enumerate(events) if event == "rename"]
    assert places, "every writer renames"
    for place in places:
        renamed = events[place][1]
        assert ("flush", renamed) in events[:place] and events[place + 1] == ("flush", renamed.parent)
        if name == "folder":
            assert sum(path.parent == renamed for _, path in events[:place]) == len(FRAMES)


DIRECT = {"os": {"replace", "rename"}, "Path": {"write_text", "write_bytes", "rename"}}
TEMPORARY = {"tav_core/models/single_file.py"}  # writes to a temporary folder, and reads that


def test_all_files_are_written_by_one_module() -> None:
    """No code that users or long runs depend on replaces a file by itself. What ships is generated and in git."""
    root, found = Path(__file__).parents[1], []
    for path in (p for part in ("tav_core", "nodes", "benchmarks") for p in (root / part).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name in {"tav_core/atomic.py", "benchmarks/harness.py", *TEMPORARY}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner, called = node.func.value, node.func.attr
            of_os = isinstance(owner, ast.Name) and owner.id == "os" and called in DIRECT["os"]
            if of_os or called in DIRECT["Path"]:
                found.append(f"{name}:{node.lineno} {called}")
    assert not found
