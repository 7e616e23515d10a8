"""The folder of a store: damaged files raise, whole ones stay, and the size limit holds."""

import errno
import os
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

import tav_core.store.files
import tav_core.store.folder
from tav_core import Store
from tav_core.cli.main import main
from tests.forks import CONTEXT

KEYS = [f"{number:032x}" for number in range(6)]


def content(number: int = 0, size: int = 1000) -> dict[str, Tensor]:
    return {"a": torch.full((size,), float(number)), "b": torch.arange(3)}


def put(store: Store, key: str, tensors: dict[str, Tensor], kind: str = "run") -> None:
    with store._locked():
        store._put(kind, key, tensors, {"about": "a test"})


def get(store: Store, key: str, kind: str = "run") -> dict[str, Tensor] | None:
    with store._locked():
        found = store._get(kind, key)
    return None if found is None else found[0]


def equal(first: dict[str, Tensor] | None, second: dict[str, Tensor]) -> bool:
    return first is not None and first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def names(store: Store) -> set[str]:
    return {path.name for path in store.folder.iterdir()} - {".lock"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_put_then_get(store: Store) -> None:
    put(store, KEYS[0], content())
    assert equal(get(store, KEYS[0]), content())
    assert get(store, KEYS[1]) is None and get(store, KEYS[0], "inversion") is None
    assert names(store) == {f"run-{KEYS[0]}.safetensors"}


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "longer":
        path.write_bytes(whole + b"\0")
    elif kind == "bit flipped":
        path.write_bytes(whole[:-1500] + bytes([whole[-1500] ^ 4]) + whole[-1499:])
    elif kind == "swapped":
        os.replace(path.with_name(f"run-{KEYS[1]}.safetensors"), path)
    elif kind == "another kind":
        os.replace(path.with_name(f"inversion-{KEYS[0]}.safetensors"), path)
    elif kind == "foreign":
        save_file({"a": torch.zeros(3)}, path)
    else:
        path.write_text("a letter")


DAMAGES = ["truncated", "empty", "longer", "bit flipped", "swapped", "another kind", "foreign", "text"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_bad_file_raises_with_its_name(store: Store, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for key, entry_kind in ((KEYS[0], "run"), (KEYS[1], "run"), (KEYS[0], "inversion"), (KEYS[2], "run")):
        put(store, key, content(1), entry_kind)
    path = store.folder / f"run-{KEYS[0]}.safetensors"
    damage(path, kind)
    with pytest.raises(ValueError, match=path.name):
        get(store, KEYS[0])
    (fault,) = store.verify()
    assert path.name in fault
    assert equal(get(store, KEYS[2]), content(1))
    assert main(["store", "verify", "--store", str(store.folder)]) == 1
    assert path.name in capsys.readouterr().out
    path.unlink()
    assert main(["store", "verify", "--store", str(store.folder)]) == 0


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_bit_raises_or_changes_nothing(store: Store, position: int, bit: int) -> None:
    put(store, KEYS[0], content(size=16))
    path = store.folder / f"run-{KEYS[0]}.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[position % len(damaged)] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        assert equal(get(store, KEYS[0]), content(size=16))
    except ValueError as error:
        assert path.name in str(error)


def test_prune_removes_the_least_recently_used(store: Store) -> None:
    for key in KEYS[:3]:
        put(store, key, content())
    one = store.entries()[0].num_bytes
    get(store, KEYS[0])
    store.max_bytes = 3 * one
    put(store, KEYS[3], content())
    assert [entry.key for entry in store.entries()] == [KEYS[2], KEYS[0], KEYS[3]]
    put(store, KEYS[4], content(size=3000))  # larger than the limit: it alone stays
    assert [entry.key for entry in store.entries()] == [KEYS[4]]
    assert store.prune(0) == [f"run-{KEYS[4]}.safetensors"]
    assert store.entries() == []


def test_a_clock_set_back_does_not_change_the_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tav_core.store.folder.time, "time_ns", lambda: clock[0])
    clock = [time.monotonic_ns() + 2_000_000_000 * 10**9]
    for key in KEYS[:4]:
        put(store, key, content())
        clock[0] -= 86_400 * 10**9
    get(store, KEYS[0])
    assert [entry.key for entry in store.entries()] == [KEYS[1], KEYS[2], KEYS[3], KEYS[0]]


def test_foreign_files_are_not_removed(store: Store) -> None:
    put(store, KEYS[0], content())
    others = ["notes.txt", "holiday.safetensors", f"run-{KEYS[1]}.safetensors.bak", ".holiday.safetensors.01234567.tmp"]
    for name in others:
        (store.folder / name).write_bytes(bytes(100))
    store.prune(0)
    assert names(store) == set(others) and store.verify() == []


def test_leftovers_of_a_killed_process_are_removed(store: Store) -> None:
    put(store, KEYS[0], content())
    left = store.folder / f".run-{KEYS[1]}.safetensors.0123abcd.tmp"
    left.write_bytes(bytes(100))
    get(store, KEYS[0])
    assert not left.exists() and len(store.entries()) == 1


def test_a_full_disk_raises_and_the_old_file_is_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, KEYS[0], content(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            with pytest.raises(OSError, match=r"disk is full: .*run-0.* needs 4.0 MB, .* MB are free. Free some space"):
                put(store, KEYS[0], content(2, size=1_000_000))
        assert names(store) == {f"run-{KEYS[0]}.safetensors"}
        assert equal(get(store, KEYS[0]), content(1))


def test_a_full_file_system(small_disk: Path) -> None:
    store = Store(small_disk)
    put(store, KEYS[0], content(1, size=200_000))
    for key in KEYS[:2]:
        with pytest.raises(OSError, match=r"disk is full: .* needs 2.0 MB"):
            put(store, key, content(2, size=500_000))
    assert names(store) == {f"run-{KEYS[0]}.safetensors"}
    assert equal(get(store, KEYS[0]), content(1, size=200_000))
    put(store, KEYS[1], content(3, size=200_000))


def test_an_unwritable_folder_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="store .*file cannot be written to .* Choose a folder"):
        put(Store(tmp_path / "file"), KEYS[0], content())

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(OSError, match=r"cannot be written to .*Permission denied.* Choose a folder"):
        put(Store(tmp_path / "read-only"), KEYS[0], content())


def test_write_errors_end_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store", remedy="Or do without.")
    put(store, KEYS[0], content(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Free some space.*Or do without.$"):
        patch.setattr(os, "fsync", full)
        put(store, KEYS[1], content(2))
    store._path("run", KEYS[0]).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="^(?!.*Or do without)"):
        get(store, KEYS[0])
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Choose a folder .* Or do without.$"):
        put(Store(tmp_path / "file", remedy="Or do without."), KEYS[0], content())


def test_a_folder_locked_by_another_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tav_core.store.folder, "LOCK_SECONDS", 0.05)
    with store._locked(), pytest.raises(TimeoutError, match="Another process has locked the store"):
        put(Store(store.folder), KEYS[0], content())


def hammer(folder: str, seed: int, rounds: int) -> None:
    """Put, get and prune at random; every entry that is got must be one that was put whole."""
    generator = torch.Generator().manual_seed(seed)
    store = Store(folder, max_bytes=15_000)
    for _ in range(rounds):
        number = int(torch.randint(len(KEYS), (), generator=generator))
        if torch.rand((), generator=generator) < 0.5:
            put(store, KEYS[number], content(number))
        elif (found := get(store, KEYS[number])) is not None:
            assert equal(found, content(number))


@pytest.mark.slow
def test_processes_share_a_folder(store: Store) -> None:
    processes = [CONTEXT.Process(target=hammer, args=(str(store.folder), seed, 40)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert store.verify() == []
    assert sum(entry.num_bytes for entry in store.entries()) <= 15_000


def test_the_commands_list_and_prune(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(store.folder)
    assert main(["store", "list", "--store", folder]) == 1
    assert "There is no store at" in capsys.readouterr().err and not store.folder.exists()
    for key in KEYS[:2]:
        put(store, key, content(size=500_000))
    (store.folder / f"run-{KEYS[2]}.safetensors").write_text("a letter")
    assert main(["store", "list", "--store", folder]) == 0
    listed = capsys.readouterr().out
    assert listed.count("2.0 MB  a test") == 2 and "not a complete safetensors file" in listed
    assert main(["store", "prune", "--store", folder, "--max-gb", "0.0025"]) == 0
    assert capsys.readouterr().out == f"removed run-{KEYS[0]}.safetensors\n"
    for wrong in ("-1", "inf", "nan"):
        assert main(["store", "prune", "--store", folder, "--max-gb", wrong]) == 1
        assert "--max-gb must be a number in [0, 1e+09]" in capsys.readouterr().err
