"""What an artist meets in ComfyUI's page, in both renderings of nodes: templates, the one choice, texts, previews."""

import importlib.util
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tav_core.presets import BUNDLED, CONTENT, LOOK, PUBLISHED
from tests.comfyui import browser
from tests.comfyui.client import Server

EXAMPLES = Path(__file__).parents[2] / "example_workflows"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
QUICKSTART, SD15 = "quickstart_bundled_model", "edit_sd15"
TEXT = "$$node-text-preview"
FEW = dict(num_frames=2, width=64, height=64, steps=2)
BOXES = """() => window.app.graph.nodes.map(node => {
    node.updateArea?.()
    const [x, y, width, height] = node.boundingRect
    return { title: node.title, x, y, width, height }
})"""
CARDS = """() => window.app.graph.nodes.map(node => {
    const card = document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect()
    return { title: node.title, x: card.x, y: card.y, width: card.width, height: card.height }
})"""


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Any]:
    if browser.CHROMIUM is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("install Chromium and the Python package playwright to open ComfyUI's page")
    with browser.opened(server, 1280, 800) as opened:
        yield opened


def render(page: Any, new: bool) -> None:
    """Choose the old or the new rendering of nodes."""
    page.evaluate("chosen => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', chosen)", new)


def opened(page: Any, name: str, source: str | None = None) -> None:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    assert browser.load(page, workflow, source) == []
    page.wait_for_timeout(1000)


def overlaps(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        min(one[at] + one[size], other[at] + other[size]) - max(one[at], other[at]) > 1
        for at, size in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", [None, browser.TEMPLATE], ids=["file", "template dialog"])
@pytest.mark.parametrize("new", [False, True], ids=["old rendering", "new rendering"])
def test_template_opens_readable_and_nothing_overlaps(page: Any, new: bool, source: str | None, name: str) -> None:
    render(page, new)
    opened(page, name, source)
    scale = page.evaluate("() => window.app.canvas.ds.scale")
    assert scale >= 0.7
    boxes = page.evaluate(CARDS if new else BOXES)
    left, top = page.evaluate("() => [...window.app.canvas.ds.offset]")
    for box in boxes:
        x, y = (box["x"], box["y"]) if new else ((box["x"] + left) * scale, (box["y"] + top) * scale)
        width, height = (box[side] * (1 if new else scale) for side in ("width", "height"))
        assert x >= 56 and y >= 80 and x + width <= 1280 and y + height <= 800, f"{box['title']} is out of sight"
    assert not [(a["title"], b["title"]) for a, b in combinations(boxes, 2) if overlaps(a, b)]


def choose(page: Any, kind: str, name: str, value: Any) -> None:
    """Choose a value of a widget as a click does."""
    page.evaluate(
        """([kind, name, value]) => {
            const node = window.app.graph.nodes.find(node => node.type === kind)
            const widget = node.widgets.find(widget => widget.name === name)
            widget.value = value
            widget.callback(value)
        }""",
        [kind, name, value],
    )


def values(page: Any, kind: str) -> dict[str, Any]:
    return page.evaluate(
        """kind => Object.fromEntries(window.app.graph.nodes.find(node => node.type === kind)
            .widgets.map(widget => [widget.name, widget.value]))""",
        kind,
    )


def hidden(page: Any, name: str) -> bool:
    return page.evaluate(
        """name => Boolean(window.app.graph.nodes.find(node => node.type === "TAVSample")
            .widgets.find(widget => widget.name === name).hidden)""",
        name,
    )


@pytest.mark.parametrize(("name", "preset", "first"), [(QUICKSTART, BUNDLED, LOOK), (SD15, PUBLISHED, "published")])
def test_one_choice_sets_the_rest_for_the_model_that_is_connected(
    page: Any, name: str, preset: Any, first: str
) -> None:
    opened(page, name)
    assert values(page, "TAVSample")["way"] == first
    for way in (CONTENT, LOOK):
        choose(page, "TAVSample", "way", way)
        shown, config = values(page, "TAVSample"), preset.source_branch[way]
        assert shown["start_from"] == "source branch" and shown["denoise"] == config.denoise
        assert (shown["steps"], shown["guidance"]) == (config.num_inference_steps, config.guidance_scale)
        assert shown["self_replace_steps"] == config.self_replace_steps
    choose(page, "TAVSample", "guidance", 3.0)
    sent = browser.prompt_of(page)
    (sample,) = (node["inputs"] for node in sent.values() if node["class_type"] == "TAVSample")
    assert (sample["way"], sample["guidance"], sample["start_from"]) == (LOOK, 3.0, "source branch")
    choose(page, "TAVSample", "way", "published")
    assert values(page, "TAVSample")["guidance"] == preset.sampling.guidance_scale


def test_another_start_makes_the_way_custom(page: Any) -> None:
    opened(page, SD15)
    choose(page, "TAVSample", "start_from", "noise")
    assert values(page, "TAVSample")["way"] == "custom"


def test_seed_is_hidden_while_nothing_is_drawn(page: Any) -> None:
    opened(page, SD15)
    assert hidden(page, "seed")
    choose(page, "TAVSample", "eta", 0.5)
    assert not hidden(page, "seed")
    choose(page, "TAVSample", "eta", 0.0)
    assert hidden(page, "seed")
    choose(page, "TAVSample", "way", CONTENT)
    assert not hidden(page, "seed")


@pytest.mark.parametrize("new", [False, True], ids=["old rendering", "new rendering"])
def test_bundled_clip_plays_in_load_clip(page: Any, new: bool) -> None:
    render(page, new)
    opened(page, QUICKSTART)
    page.wait_for_function("() => [...document.querySelectorAll('video')].some(video => video.readyState >= 2)")
    assert "Video failed to load" not in page.inner_text("body")


def test_nodes_have_the_colour_of_their_stage(page: Any) -> None:
    opened(page, QUICKSTART)
    colours = page.evaluate("() => Object.fromEntries(window.app.graph.nodes.map(node => [node.type, node.color]))")
    stages = [
        colours[kind] for kind in ("TAVLoadVideo", "TAVInflateUNet", "TAVOneShotTune", "TAVSample", "TAVSaveVideo")
    ]
    assert None not in stages and len(set(stages)) == len(stages)


def make_small(page: Any, **more: int) -> None:
    page.evaluate(
        """few => { for (const node of window.app.graph.nodes) for (const widget of node.widgets ?? [])
            if (widget.name in few) widget.value = few[widget.name] }""",
        FEW | more,
    )


def texts(page: Any) -> dict[str, str]:
    """The text that each node shows, by type."""
    return page.evaluate(
        """name => Object.fromEntries(window.app.graph.nodes.map(node =>
            [node.type, node.widgets?.find(widget => widget.name === name)?.value ?? ""]))""",
        TEXT,
    )


def wait_for_text(page: Any, kind: str, words: str) -> None:
    """Wait until the text of a node holds some words: a page on a busy machine is behind the server."""
    page.wait_for_function(
        """([kind, name, words]) => window.app.graph.nodes.find(node => node.type === kind)
            .widgets.find(widget => widget.name === name)?.value.includes(words)""",
        arg=[kind, TEXT, words],
    )


def listen(page: Any) -> None:
    """Count the pictures that arrive for each node while it runs."""
    page.evaluate(
        """() => { window.pictures = {}
            window.comfyAPI.api.api.addEventListener("b_preview_with_metadata", ({ detail }) => {
                window.pictures[detail.nodeId] = (window.pictures[detail.nodeId] ?? 0) + 1 }) }"""
    )


def test_every_report_shows_on_its_node_and_the_preview_moves(page: Any, server: Server) -> None:
    render(page, False)
    opened(page, QUICKSTART)
    make_small(page, steps=60)  # long enough for the preview to move
    listen(page)
    server.free()  # a node that is not run again says nothing to a fresh page
    outcome = server.wait(browser.run(page))
    assert outcome.succeeded, outcome.history["status"]
    wait_for_text(page, "TAVSample", "48 steps in")  # denoise is 0.8
    shown = texts(page)
    assert "2 frames of 64 x 64" in shown["TAVLoadVideo"]
    assert "The model predicts" in shown["TAVInflateUNet"]
    assert ", loss " in shown["TAVOneShotTune"]
    (sample,) = page.evaluate("() => window.app.graph.nodes.filter(n => n.type === 'TAVSample').map(n => String(n.id))")
    assert page.evaluate("id => window.pictures[id] ?? 0", sample) > 2


def test_stopped_node_says_so_and_nodes_after_it_lose_their_old_text(page: Any, server: Server) -> None:
    render(page, False)
    opened(page, QUICKSTART)
    make_small(page, seed=5)
    server.free()
    assert server.wait(browser.run(page)).succeeded
    page.wait_for_timeout(1000)
    assert texts(page)["TAVSample"]
    make_small(page, seed=6, steps=900)
    prompt_id = browser.run(page)
    page.wait_for_function(
        """name => window.app.graph.nodes.find(node => node.type === "TAVOneShotTune")
            .widgets.find(widget => widget.name === name)?.value.startsWith("step ")""",
        arg=TEXT,
    )
    server.cancel(prompt_id)
    page.wait_for_timeout(1500)
    shown = texts(page)
    assert shown["TAVOneShotTune"].startswith("stopped after step ")
    assert shown["TAVSample"] == "" and shown["TAVDDIMInvert"] == ""
    assert shown["TAVLoadVideo"], "its result is still valid"


def test_advanced_inputs_are_folded_in_both_renderings(page: Any) -> None:
    """The old one shows them after a choice of the node's menu, which makes it longer."""
    render(page, False)
    opened(page, QUICKSTART)
    tune = "const node = window.app.graph.nodes.find(node => node.type === 'TAVOneShotTune')"
    shown = f"() => {{ {tune}; return node.widgets.filter(w => node.isWidgetVisible(w)).map(w => w.name) }}"
    assert page.evaluate(shown)[:3] == ["steps", "learning_rate", "seed"]
    assert "weight_decay" not in page.evaluate(shown)
    height = page.evaluate(f"() => {{ {tune}; return node.size[1] }}")
    page.evaluate(f"() => {{ {tune}; node.toggleAdvanced() }}")
    assert "weight_decay" in page.evaluate(shown)
    assert page.evaluate(f"() => {{ {tune}; return node.size[1] }}") > height
