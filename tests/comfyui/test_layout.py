"""Places of nodes in the templates. Needs no ComfyUI; `test_first_hour.py` opens them in its page."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tools.layout import BAND, COLUMNS, TITLE, lay_out

EXAMPLES = Path(__file__).parents[2] / "example_workflows"
WORKFLOWS = sorted(EXAMPLES.glob("*.json"))
Box = tuple[float, float, float, float]  # left, top, right, bottom


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def box(node: dict[str, Any]) -> Box:
    """What a node covers, with its title; the height of a collapsed one is that of its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + (0 if node["flags"].get("collapsed") else height)


def overlaps(one: Box, other: Box) -> bool:
    return all(min(one[at + 2], other[at + 2]) > max(one[at], other[at]) for at in (0, 1))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_template_dialog_shows_the_template_at_70_percent(path: Path) -> None:
    """The page pads the nodes by 10 on each side and fits that into three quarters of the window, here 1280 x 800."""
    boxes = [box(node) for node in read(path)["nodes"]]
    width, height = (max(b[at + 2] for b in boxes) - min(b[at] for b in boxes) + 20 for at in (0, 1))
    scale = 0.75 * min(1280 / width, 800 / height)
    assert scale >= 0.7
    top = 400 - scale * (height / 2 - 10 + BAND)
    assert top > 80, "the titles of the groups lie below the page's bars"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_file_opens_at_70_percent_with_all_nodes_in_sight(path: Path) -> None:
    workflow = read(path)
    view = workflow["extra"]["ds"]
    assert view["scale"] >= 0.7
    for node in workflow["nodes"]:
        left, top, right, bottom = (
            (edge + view["offset"][at % 2]) * view["scale"] for at, edge in enumerate(box(node))
        )
        assert left >= 56 and top >= 80 and right <= 1280 and bottom <= 800, node["type"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nodes_of_a_template_do_not_overlap(path: Path) -> None:
    nodes = read(path)["nodes"]
    assert not [(a["type"], b["type"]) for a, b in combinations(nodes, 2) if overlaps(box(a), box(b))]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_groups_are_in_reading_order_and_hold_all_nodes(path: Path) -> None:
    workflow = read(path)
    groups = workflow["groups"]
    assert [group["title"][0] for group in groups] == sorted(group["title"][0] for group in groups)
    assert [group["bounding"][0] for group in groups] == sorted(group["bounding"][0] for group in groups)
    for node in workflow["nodes"]:
        x, y = node["pos"]
        inside = [g for g in groups if 0 <= x - g["bounding"][0] <= g["bounding"][2] and y >= g["bounding"][1]]
        assert len(inside) == 1, node["type"]
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    assert len(note["widgets_values"][0]) < 220, "notes are short"


def test_column_that_is_too_long_is_refused() -> None:
    nodes = [{"type": "TAVLoadVideo", "inputs": [], "flags": {}} for _ in range(2)]
    with pytest.raises(ValueError, match=COLUMNS[0]):
        lay_out(nodes)
