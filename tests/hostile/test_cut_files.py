"""A file of tuned weights that another program truncates while it is read raises an error and kills no process."""

import os
import threading
from pathlib import Path

import pytest
import torch

from tav_core.store.files import raise_if_damaged, read_file, write_file
from tests.forks import CONTEXT

KIND, MEGABYTES = "a test", 8


def read_while_cut(path: Path, rounds: int) -> None:
    """Read over and over, while a thread cuts the file to a page and writes it anew; whole or refused, each time."""
    whole, done = path.read_bytes(), threading.Event()

    def cut() -> None:
        while not done.is_set():
            os.truncate(path, 4096)
            with path.open("r+b") as file:
                file.write(whole)

    thread = threading.Thread(target=cut)
    thread.start()
    outcomes = set()
    try:
        while len(outcomes) < 2 or (rounds := rounds - 1) > 0:
            try:
                raise_if_damaged(path, *read_file(path, KIND))
                outcomes.add("read")
            except ValueError:
                outcomes.add("refused")
    finally:
        done.set()
        thread.join()


@pytest.mark.skipif(os.name != "posix", reason="Windows cuts no file that is being read")
@pytest.mark.parametrize("rounds", [8, pytest.param(3000, marks=pytest.mark.soak)])
def test_a_file_truncated_while_it_is_read_does_not_kill_the_process(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "tuned.safetensors"
    write_file(path, {"a": torch.rand(MEGABYTES * 2**18)}, {"format": KIND})
    process = CONTEXT.Process(target=read_while_cut, args=(path, rounds))
    process.start()
    process.join(300)
    assert process.exitcode == 0
