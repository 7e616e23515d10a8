"""The example workflows in ComfyUI's own page."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui import browser
from tests.comfyui.client import Server
from tools.make_blueprint import FILE

EXAMPLES = Path(__file__).parents[2] / "example_workflows"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
NEEDS_A_DOWNLOAD = {"edit_sd15", "edit_sd15_content", "edit_sd15_lora", "native_style_sd15", "native_few_steps_sd15"}
NEEDS_A_FILE = {"load_and_edit": "tune_and_save"}  # that another workflow makes


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Any]:
    if browser.CHROMIUM is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("install Chromium and the Python package playwright to open the workflows in ComfyUI's page")
    with browser.opened(server) as opened:
        yield opened


def opened_prompt(page: Any, name: str) -> dict[str, Any]:
    """A workflow's API form as the page makes it, without the values of the page's own widgets."""
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    assert browser.load(page, workflow) == []
    prompt = browser.prompt_of(page)
    for node in prompt.values():
        for own in ("upload", "video-preview"):  # widgets of the page's own
            node["inputs"].pop(own, None)
    return prompt


@pytest.mark.parametrize("name", NAMES)
def test_page_converts_each_workflow_to_its_api_file(page: Any, name: str) -> None:
    twin = json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))
    made = opened_prompt(page, name)
    assert {key: (node["class_type"], node["inputs"]) for key, node in made.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in twin.items()
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NEEDS_A_DOWNLOAD])
def test_server_accepts_prompts_of_the_page(page: Any, server: Server, name: str) -> None:
    if name in NEEDS_A_FILE:
        make = json.loads((EXAMPLES / "api" / f"{NEEDS_A_FILE[name]}.json").read_text(encoding="utf-8"))
        for node in make.values():
            node["inputs"] |= {key: 2 for key in ("steps", "num_frames") if key in node["inputs"]}
        server.run(make)
    server.cancel(server.submit(opened_prompt(page, name)))


def test_page_has_the_chinese_names(page: Any, server: Server) -> None:
    texts = page.evaluate("async () => (await (await fetch('/i18n')).json()).zh.nodeDefs.TAVSample")
    assert texts["display_name"].startswith("采样")


@pytest.fixture(scope="module")
def chinese(page: Any, server: Server) -> Iterator[Any]:
    """A page of its own: one that changes its language loads its workflow anew, at a time of its own."""
    context = page.context.browser.new_context(viewport={"width": 1280, "height": 800})
    server.post("/settings/Comfy.Locale", "zh")
    fresh = browser.ready(context.new_page(), server)
    yield fresh
    server.post("/settings/Comfy.Locale", "en")
    context.close()


@pytest.mark.parametrize("name", NAMES)
def test_texts_of_a_template_are_chinese_in_a_chinese_page(chinese: Any, name: str) -> None:
    browser.load(chinese, json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8")))
    texts = chinese.evaluate(
        """() => [...app.graph.groups.map(group => group.title), ...app.graph.nodes.map(node => node.title),
            ...app.graph.nodes.filter(n => n.type === "MarkdownNote").map(n => n.widgets[0].value)]"""
    )
    english = json.loads((EXAMPLES.parent / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))["tuneAVideo"]
    assert "说明" in texts and not {*texts} & english.keys()


def test_labels_of_the_blueprint_are_chinese_in_a_chinese_page(chinese: Any) -> None:
    browser.load(chinese, json.loads(FILE.read_text(encoding="utf-8")))
    title, labels = chinese.evaluate(
        "() => { const [node] = app.graph.nodes; return [node.title, node.widgets.map(widget => widget.label)] }"
    )
    assert title == "Tune-A-Video 编辑" and labels[:2] == ["片段里有什么", "编辑后有什么"]


def test_titles_of_ones_own_stay(chinese: Any) -> None:
    workflow = json.loads((EXAMPLES / "quickstart_bundled_model.json").read_text(encoding="utf-8"))
    workflow["nodes"][0]["title"] = "My clip"
    browser.load(chinese, workflow)
    assert chinese.evaluate("() => app.graph.nodes.some(node => node.title === 'My clip')")
