"""`edit --store`: stopped, killed and started again, it writes the video of an uninterrupted run."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tav_core import Store, read_video
from tav_core.cli.main import main
from tav_core.models.base import ASSETS
from tests.cli.test_command_line import ROOT

STEPS = 54  # a state is kept at 50
HANG = 600  # seconds after which a process is not slow but stuck
# Started from a background job a process ignores the interruption, unless it says otherwise.
START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tav_core.cli.main import main
{more}
sys.exit(main())
"""
KILLED_AT_THE_NEXT_STATE = """
from tav_core import Store
keep = Store._save_tuning
Store._save_tuning = lambda *given: (keep(*given), os.kill(os.getpid(), signal.SIGKILL))
"""


def arguments(store: Path, output: Path) -> list[str]:
    options = {
        "--video": ASSETS / "demo-clip.mp4",
        "--source-prompt": "a clip",
        "--prompt": "a pink person",
        "--output": output,
        "--store": store,
        "--num-frames": 2,
        "--width": 32,
        "--height": 32,
        "--tuning-steps": STEPS,
        "--num-inference-steps": 3,
        "--start-from": "inversion",
        "--device": "cpu",
    }
    return ["edit", *(str(part) for pair in options.items() for part in pair)]


def steps_kept(store: Path) -> int:
    about = [Store(store).describe(entry) for entry in Store(store).entries()]
    return int(about[0].split()[0]) if about else 0


def start(command: list[str], more: str = "") -> subprocess.Popen:
    script = START.format(more=more)
    return subprocess.Popen([sys.executable, "-c", script, *command], cwd=ROOT, stderr=subprocess.PIPE)


def stopped_after_a_step(process: subprocess.Popen) -> str:
    """The rest of its output."""
    deadline = time.monotonic() + HANG
    while not (select.select([process.stderr], [], [], 1)[0] and b"loss=" in os.read(process.stderr.fileno(), 10_000)):
        assert process.poll() is None and time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    return ended(process)


def ended(process: subprocess.Popen) -> str:
    try:
        return process.communicate(timeout=HANG)[1].decode()
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals.")
def test_edit_resumes_after_an_interruption_and_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, output = tmp_path / "mein Speicher", tmp_path / "edit.mp4"
    stopped = start(arguments(store, output))
    errors = stopped_after_a_step(stopped)
    assert stopped.returncode == 130 and errors.endswith("Stopped.\n") and "Traceback" not in errors
    stopped_at = steps_kept(store)
    assert 0 < stopped_at < STEPS

    killed = start(arguments(store, output), KILLED_AT_THE_NEXT_STATE)
    ended(killed)
    assert killed.returncode == -signal.SIGKILL and not output.exists()
    assert steps_kept(store) in (50, STEPS)

    assert main(arguments(store, output)) == 0
    alone = tmp_path / "alone.mp4"
    assert main(arguments(tmp_path / "another store", alone)) == 0
    assert torch.equal(read_video(output).frames, read_video(alone).frames)
    assert output.read_bytes() == alone.read_bytes()
    capsys.readouterr()

    assert main(["store", "list", "--store", str(store)]) == 0
    listed = capsys.readouterr().out
    assert listed.count("tuned-") == listed.count("inversion-") == 1 and "run-" not in listed
    assert main(["store", "verify", "--store", str(store)]) == 0
    assert "2 entries, 0 of them bad" in capsys.readouterr().out
