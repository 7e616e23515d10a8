"""Which parts of the check of a GPU run, what is kept of them, and what is printed."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import results
from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import compiled, driver, fit, memory, native, precision, speed
from benchmarks.gpu_check.setting import GIB, Setting

SETTING = Setting("cpu", small=True)
POPEN = subprocess.Popen


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three parts: one works, two fails, three cannot run."""
    made = {
        "one": SimpleNamespace(unavailable=lambda setting: "", measure=lambda setting: {"figure": 1}),
        "two": SimpleNamespace(unavailable=lambda setting: "", measure=lambda setting: 1 // 0),
        "three": SimpleNamespace(unavailable=lambda setting: "It takes a GPU."),
    }
    for each in made.values():
        each.shown = lambda result: f"| {result['figure']} |"
    monkeypatch.setattr(driver, "part", made.__getitem__)
    monkeypatch.setattr(driver, "LIMITS", dict.fromkeys(made, 60))
    return made


def in_here(name: str, setting: Setting, seconds: float) -> driver.Outcome:
    return driver.here(name, setting)


def check_all(path: Path, seconds: float = 600) -> tuple[driver.Check, list[str]]:
    check = driver.Check.load(path, SETTING)
    return check, list(driver.run(check, seconds, in_here))


def test_a_part_that_fails_is_recorded_and_stops_no_other(parts: Any, tmp_path: Path) -> None:
    check, tried = check_all(tmp_path / "check.json")
    assert tried == ["one", "two", "three"]
    saved = json.loads((tmp_path / "check.json").read_text())
    assert saved["parts"] == check.parts and saved["machine"]["small"] is True
    without_seconds = {name: {**part, "seconds": None} for name, part in saved["parts"].items()}
    assert without_seconds == {
        "one": {"status": "done", "result": {"figure": 1}, "seconds": None},
        "two": {
            "status": "failed", "error": "ZeroDivisionError: integer division or modulo by zero", "seconds": None,
        },
        "three": {"status": "skipped", "reason": "It takes a GPU.", "seconds": None},
    }  # fmt: skip
    assert check.tables() == {
        "one": "| 1 |",
        "two": "failed: ZeroDivisionError: integer division or modulo by zero",
        "three": "skipped: It takes a GPU.",
    }


def test_parts_that_are_done_are_not_run_again(parts: Any, tmp_path: Path) -> None:
    check_all(tmp_path / "check.json")
    parts["one"].measure = lambda setting: pytest.fail("it runs again")
    parts["two"].measure = lambda setting: {"figure": 2}
    check, tried = check_all(tmp_path / "check.json")
    assert tried == ["two", "three"] and check.parts["two"]["result"] == {"figure": 2}
    assert check.parts["one"]["result"] == {"figure": 1}


def test_no_part_begins_when_the_time_is_over_and_the_next_run_makes_up(parts: Any, tmp_path: Path) -> None:
    check, _ = check_all(tmp_path / "check.json", seconds=1)
    assert {part["status"] for part in check.parts.values()} == {"skipped"}
    assert check.parts["one"]["reason"] == "No time was left of 1 s: run the command again."
    assert check_all(tmp_path / "check.json")[0].parts["one"]["status"] == "done"


def test_results_of_another_machine_or_size_are_refused(parts: Any, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    check_all(path)
    with pytest.raises(ValueError, match="of another machine"):
        driver.Check.load(path, Setting("cpu", small=False))
    path.write_text("[]")
    with pytest.raises(ValueError, match="no file of this check"):
        driver.Check.load(path, SETTING)


def test_limits_of_all_parts_are_within_the_time_and_each_has_a_heading() -> None:
    assert sum(driver.LIMITS.values()) <= driver.TOTAL
    assert tuple(driver.LIMITS) == results.CHECKED
    for name in driver.LIMITS:
        module = driver.part(name)
        assert module.__doc__ and callable(module.measure) and callable(module.shown)


def replaced(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A process of a part runs this code in place of the check."""
    monkeypatch.setattr(driver.subprocess, "Popen", lambda _, **given: POPEN([sys.executable, "-c", code], **given))


@pytest.mark.slow
def test_a_part_that_takes_too_long_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path / "later"
    child = f"import pathlib, time; time.sleep(3); pathlib.Path({str(later)!r}).touch()"
    replaced(monkeypatch, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    outcome = driver.in_a_process("speed", SETTING, 1.0)
    assert outcome == {"status": "failed", "error": "It took more than 1 s."}
    time.sleep(3)
    assert not later.exists()


def test_a_process_that_dies_is_a_failed_part(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    outcome = driver.in_a_process("speed", SETTING, 20.0)
    assert outcome == {"status": "failed", "error": "Its process ended with code -9."}
    replaced(monkeypatch, 'print(\'a library speaks\'); print(\'{"status": "done", "result": {}}\')')
    assert driver.in_a_process("speed", SETTING, 20.0) == {"status": "done", "result": {}}


def test_the_command_prints_tables_and_writes_those_of_parts_that_are_done(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    written = {}
    monkeypatch.setattr(driver, "in_a_process", in_here)
    monkeypatch.setattr(results, "write", lambda kind, part, section: written.update({f"{kind} {part}": section}))
    path = tmp_path / "check.json"
    assert command.main(["--device", "cpu", "--output", str(path), "--write"]) == 1, "a part failed"
    out = capsys.readouterr().out
    assert list(written) == ["gpu_check one"] and "`python -m benchmarks.gpu_check`" in written["gpu_check one"]
    assert written["gpu_check one"] in out and "skipped: It takes a GPU." in out
    assert command.main(["--device", "cuda:99", "--output", str(path)]) == 1
    assert "The device cuda:99 cannot be used here" in capsys.readouterr().err


def test_native_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    assert native.unavailable(SETTING) == "Set COMFYUI_PATH to a ComfyUI folder, and COMFYUI_PYTHON to its Python."
    monkeypatch.setenv("COMFYUI_PATH", "somewhere")
    assert native.unavailable(SETTING) == ""


def test_cards_that_are_too_small_and_torch_without_triton_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Setting("cuda", small=False)
    monkeypatch.setattr(fit.torch.cuda, "mem_get_info", lambda device: (5 * GIB, 6 * GIB))
    assert fit.unavailable(card) == "The card has less than 7.00 GiB."
    monkeypatch.setattr(compiled, "has_triton", lambda: False)
    assert "install triton" in compiled.unavailable(card) and compiled.unavailable(SETTING) == ""


@pytest.mark.slow
def test_rows_that_ran_out_of_memory_are_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(memory, "peak_of", full)
    monkeypatch.setattr(speed.step, "builders", full)
    case = SETTING.case(8, 64)
    row = memory.row(case, "tuning")
    assert row["fits"] is False and row["planned_above"] > 2**20
    assert "out of memory" in memory.shown({"overhead": 1.15, "rows": [row]})
    row = speed.row(case, "tuning", 1, 1e12)
    assert "out of memory" in speed.shown({"case": "case", "rows": [row]})
    monkeypatch.setattr(speed.step, "builders", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        speed.row(case, "tuning", 1, 1e12)


def test_precision_is_relative_to_the_reference() -> None:
    import torch

    assert precision.relative(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])) == 0
    assert precision.relative(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0])) == 1
