"""`demo` prints what the judge found."""

from pathlib import Path

import pytest

from tav_core.cli import demo
from tav_core.cli.main import main


def test_prints_each_edit_and_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    asked = {}

    def run_demo(output, progress, **options):
        asked.update(options, output=output)
        untuned = {"prompt": "a red dog", "strict": 0.0, "loose": 0.25}
        edits = {"coat": {"prompt": "a blue dog", "strict": 0.5, "loose": 1.0}}
        measured = {"reconstruction_psnr": 33.14, "round_trip_psnr": 33.82, "seconds": {"all": 61.4}}
        return measured | {"edits": edits, "tuning": {"untuned": untuned}}

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert main(["demo", "--output", str(tmp_path), "--seed", "3", "--start-from", "noise"]) == 0
    assert asked == {"seed": 3, "start_from": "noise", "output": tmp_path}
    assert capsys.readouterr().out.splitlines() == [
        "a blue dog: 50 % of frames are right, loosely judged 100 %",
        "a red dog (not tuned): 0 % of frames are right, loosely judged 25 %",
        "Reconstruction: 33.1 dB; the autoencoder alone: 33.8 dB.",
        f"Finished in 61 s. Open {tmp_path / 'report.html'} in a browser.",
    ]
