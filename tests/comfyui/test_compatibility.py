"""The rows of docs/compatibility.md, each measured anew in ComfyUI's own process. See native_compat.py."""

import re
from pathlib import Path

import pytest

from tests.comfyui.client import ROOT
from tests.comfyui.test_native import CHAIN, HOST, run

COMPAT = Path(__file__).with_name("native_compat.py")
PAGE = ROOT / "docs" / "compatibility.md"
ROW = re.compile(r"^\| ([^|]+?) \| ([0-9.e-]+) \| ([0-9.]+|-) \|$", re.MULTILINE)
STATED = {name: float(error) for name, error, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(comfyui: tuple[Path, str]) -> dict[str, dict[str, float]]:
    found = run(comfyui, COMPAT, "nodes", "before", "controls", "memory")
    return {name: row for rows in found.values() for name, row in rows.items()}


@pytest.fixture(scope="module")
def sampling(comfyui: tuple[Path, str]) -> dict[str, float]:
    return run(comfyui, HOST, "sampling")["sampling"]


def test_page_has_a_row_for_each_measurement(measured: dict[str, dict[str, float]]) -> None:
    assert STATED.keys() == measured.keys()


@pytest.mark.parametrize("name", STATED)
def test_row_holds(measured: dict[str, dict[str, float]], name: str) -> None:
    assert measured[name]["error"] <= CHAIN
    assert measured[name]["moved"] > 0.05, "the node acts"


def test_every_sampler_and_scheduler_of_the_host_equals_the_video_unet(sampling: dict[str, float]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert not [name for name in sampling if f"`{name}`" not in text]
    assert max(sampling.values()) <= CHAIN, sampling
