"""The command batch: the hand-over from tav_core, its checks, and edits of the bundled model."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tav_core import read_video, run_edit, write_video
from tav_core.cli import batch
from tav_core.cli.main import main
from tav_core.job import EditJob
from tav_core.job.files import read_job
from tests.batch.tables import table_of, write_csv
from tests.clips import caption_of, clip_of

ROOT = Path(__file__).parents[2]
SMALL = ["num_frames=2", "width=32", "height=32", "tuning_steps=2", "num_inference_steps=3"]


def test_the_published_archive_lacks_the_package() -> None:
    ignored = (ROOT / ".comfyignore").read_text().splitlines()
    assert "/tav_batch/" in ignored
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore"]
    left_out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "tav_batch"], capture_output=True, text=True)
    assert {*tracked.stdout.splitlines()} <= {*left_out} and "tav_batch/cli.py" in left_out
    assert "tav_core/cli/batch.py" not in left_out


def test_no_file_is_read_as_pickle() -> None:
    for path in (ROOT / "tav_batch").glob("*.py"):
        code = path.read_text()
        assert not re.search(r"\bpickle|torch\.load|np\.load|yaml\.(unsafe_|full_)?load\(|marshal|shelve", code), path


def test_without_the_package_the_command_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(batch, "found", None)
    for arguments in ([], ["--table", "t.csv", "--output", "o"], ["--ray", "local"]):
        assert main(["batch", *arguments]) == 1
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and "clone the project's repository" in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers must be a whole number"),
        (["--threads", "x"], "invalid int value"),
        (["--ray", "local", "--comfyui", "http://h"], "give one of them"),
        (["--suffix", "mp4"], "--suffix must begin with a dot"),
        (["--set", "frames=3"], "--set frames: there is no such option"),
        (["--set", "frames"], "--set takes FIELD=VALUE"),
        (["--per-gpu", "some"], "--per-gpu must be"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path: Path, options: list[str], message: str, capsys: Any) -> None:
    pytest.importorskip("pyarrow")
    table = write_csv(tmp_path / "t.csv", [{"video": "c.mp4", "source_prompt": "a", "prompt": "b"}])
    try:
        status = main(["batch", "--table", str(table), "--output", str(tmp_path / "o"), *options])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status and message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_missing_table_is_one_sentence(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("pyarrow")
    assert main(["batch", "--table", str(tmp_path / "t.csv"), "--output", str(tmp_path / "o")]) == 1
    assert "t.csv" in capsys.readouterr().err


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Four edits of two clips, and a bad row."""
    pytest.importorskip("pyarrow")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = []
    for coat in ("red", "green"):
        write_video(tmp_path / f"{coat}.mp4", clip_of(2, coat=coat), 8)
        for other in ("blue", "pink"):
            words = {"source_prompt": caption_of(coat=coat), "prompt": caption_of(coat=other)}
            rows.append({"name": f"{coat}-{other}", "video": f"{coat}.mp4", **words, "seed": ""})
    rows[1]["start_from"] = "inversion"
    return write_csv(tmp_path / "edits.csv", [*rows, rows[0] | {"name": "bad", "seed": "x"}])


@pytest.mark.slow
def test_a_batch_makes_the_frames_of_single_edits_and_repeats_nothing(table: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "out"
    command = ["batch", "--table", str(table), "--output", str(output), "--threads", "1", "--device", "cpu"]
    command += [part for setting in SMALL for part in ("--set", setting)]
    assert main([*command, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "4 edits of 2 tunings" in plan and "not known yet" in plan and "red-blue: a blue dog" in plan
    assert main([*command, "--workers", "2", "--log-format", "json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines] == ["fault", "row", "row", "row", "row", "end"]
    rows = {row["name"]: row for row in table_of(output)}
    assert [row["status"] for row in rows.values()] == ["done"] * 4 + ["failed"]
    assert "Line 6, column seed: seed is 'x': a whole number is expected" in rows["bad"]["error"]
    for name, row in rows.items():
        if name == "bad":
            continue
        assert float(row["psnr"]) > 0 and float(row["seconds_sample"]) > 0 and "torch" in row["versions"]
        job = read_job(output / f"{name}.job.json")
        report = run_edit(EditJob(**job | {"output": tmp_path / "alone.mp4"}))
        assert hashlib.sha256(report.edit.contiguous().numpy().data).hexdigest() == row["frames_sha256"]
        assert read_video(output / row["file"]).frames.shape == (2, 32, 32, 3)
    assert main([*command, "--dry-run"]) == 0
    assert "0 edits of 0 tunings" in capsys.readouterr().out
    assert main([*command, "--workers", "2"]) == 1
    assert "4 of 5 edits are done, 1 failed" in capsys.readouterr().err
    other = [part if part != str(output) else str(tmp_path / "other") for part in command]
    assert main([*other, "--dry-run"]) == 0
    assert "by the stage times measured on this machine" in capsys.readouterr().out
