"""The rule itself: what `clear_error` lets pass, and what it does not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tav_core import TuningConfig, read_video

from .clear import clear_error


def test_an_error_of_the_core_passes(tmp_path: Path) -> None:
    with clear_error("steps"):
        TuningConfig(steps=-1)
    with clear_error():
        read_video(tmp_path / "missing.mp4")


@pytest.mark.parametrize(
    "fail",
    [
        lambda: torch.zeros(2) + torch.zeros(3),
        lambda: json.loads("not JSON at all"),
        lambda: Path("/a folder/that is/missing").read_text(),
    ],
    ids=["torch", "json", "system"],
)
def test_an_error_of_another_library_does_not(fail: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match="not raised by tav_core"), clear_error():
        fail()


def test_an_error_of_another_kind_does_not() -> None:
    with pytest.raises(KeyError), clear_error():
        {}["a key of no dictionary"]


@pytest.mark.parametrize("change", ["weight", "flag", "mode"])
def test_an_error_after_a_change_does_not(change: str) -> None:
    module = nn.Linear(2, 2)

    def fail() -> None:
        if change == "weight":
            module.weight.data.add_(1e-6)
        elif change == "flag":
            module.weight.requires_grad_(False)
        else:
            module.eval()
        TuningConfig(steps=-1)

    with pytest.raises(AssertionError, match="changed before it failed"), clear_error(unchanged=module):
        fail()
    with clear_error(unchanged=module):
        TuningConfig(steps=-1)
