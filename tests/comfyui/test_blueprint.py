"""The subgraph blueprint of the node library, in ComfyUI's page: found, set, and run on the bundled model."""

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tav_core.presets import BUNDLED, CONTENT, LOOK, PUBLISHED, Preset
from tests.comfyui import browser
from tests.comfyui.client import Server
from tests.comfyui.prompts import EDIT, SOURCE
from tools.make_blueprint import FILE, NAME

SMALL = {"TAVLoadVideo": dict(num_frames=2, width=64, height=64), "TAVDDIMInvert": dict(steps=2)}


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Any]:
    if browser.CHROMIUM is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("install Chromium and the Python package playwright to open ComfyUI's page")
    with browser.opened(server, 1280, 800) as opened:
        yield opened


def placed(bundled: bool) -> dict[str, Any]:
    """A workflow of Load Video, the blueprint and Save Video; on the bundled model in place of the checkpoint."""
    workflow = json.loads(FILE.read_text(encoding="utf-8"))
    (node,) = workflow["nodes"]
    (inside,) = workflow["definitions"]["subgraphs"]
    if bundled:
        (loader,) = (inner for inner in inside["nodes"] if inner["type"] == "CheckpointLoaderSimple")
        loader |= {"type": "TAVLoadDemoModel", "inputs": [], "widgets_values": [], "properties": {}}
        node["inputs"] = [entry for entry in node["inputs"] if entry["name"] != "checkpoint"]
        slot = next(slot for slot, entry in enumerate(inside["inputs"]) if entry["name"] == "checkpoint")
        (gone,) = inside["inputs"].pop(slot)["linkIds"]
        inside["links"] = [link for link in inside["links"] if link["id"] != gone]
        for link in inside["links"]:
            link["origin_slot"] -= link["origin_id"] == inside["inputNode"]["id"] and link["origin_slot"] > slot
    ends = {"pos": [0, 0], "size": [200, 100], "flags": {}, "mode": 0, "order": 0}
    load, save = node["id"] + 1, node["id"] + 2
    workflow["nodes"] += [
        dict(id=load, type="LoadVideo", inputs=[], outputs=[dict(name="VIDEO", type="VIDEO", links=[1])], **ends)
        | {"widgets_values": ["tune-a-video-cartwheel.mp4", "image"]},
        dict(id=save, type="SaveVideo", inputs=[dict(name="video", type="VIDEO", link=2)], outputs=[], **ends)
        | {"widgets_values": ["test/blueprint", "auto", "auto"]},
    ]
    workflow["links"] = [[1, load, 0, node["id"], 0, "VIDEO"], [2, node["id"], 0, save, 0, "VIDEO"]]
    node["inputs"][0]["link"], node["outputs"][0]["links"] = 1, [2]
    return workflow | {"last_node_id": save, "last_link_id": 2}


def choose(page: Any, name: str, value: Any) -> None:
    """Choose a value of a widget of the blueprint as a click does."""
    page.evaluate(
        """([name, value]) => {
            const widget = window.app.graph.nodes.find(node => node.subgraph).widgets.find(w => w.name === name)
            widget.value = value
            widget.callback?.(value)
        }""",
        [name, value],
    )


def sent(page: Any) -> dict[str, dict[str, Any]]:
    """The inputs that the page sends, by the types of the nodes; those of CLIP Text Encode by their titles."""
    nodes = browser.prompt_of(page).values()
    return {n["_meta"]["title"] if n["class_type"] == "CLIPTextEncode" else n["class_type"]: n["inputs"] for n in nodes}


def test_node_library_offers_the_blueprint(page: Any) -> None:
    page.evaluate("async () => { await window.app.extensionManager.command.execute('Comfy.NewBlankWorkflow') }")
    page.wait_for_function("() => window.app.graph.nodes.length === 0")
    page.mouse.dblclick(400, 300)
    page.wait_for_timeout(1000)
    page.keyboard.type(NAME, delay=30)
    page.get_by_text("Subgraph Blueprints / ").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function("() => window.app.graph.nodes.length === 1")
    title, sockets, widgets, outputs = page.evaluate(
        """() => { const [node] = window.app.graph.nodes
            return [node.title, node.inputs.filter(i => !i.widget).map(i => i.label),
                    node.widgets.map(w => w.label), node.outputs.map(o => o.type)] }"""
    )
    assert (title, sockets, outputs) == (NAME, ["clip"], ["VIDEO"])
    texts, checkpoint, knobs = widgets[:2], widgets[2], widgets[3:]
    assert texts == ["what the clip shows", "what the edit shows"] and checkpoint == "checkpoint"
    assert knobs == ["way", "tuning steps", "guidance"]


@pytest.mark.parametrize(("bundled", "preset"), [(False, PUBLISHED), (True, BUNDLED)])
def test_texts_and_knobs_act_inside(page: Any, bundled: bool, preset: Preset) -> None:
    assert browser.load(page, placed(bundled)) == []
    choose(page, "caption", SOURCE)
    choose(page, "edit", EDIT)
    choose(page, "tuning_steps", 7)
    for way in (CONTENT, LOOK):
        choose(page, "way", way)
        inputs, config = sent(page), preset.source_branch[way]
        assert inputs["TAVSample"]["way"] == way and inputs["TAVSample"]["start_from"] == "source branch"
        assert inputs["TAVSample"]["denoise"] == config.denoise
        assert inputs["TAVSample"]["guidance"] == config.guidance_scale
    choose(page, "guidance", 3.0)
    inputs = sent(page)
    assert inputs["TAVSample"]["guidance"] == 3.0 and inputs["TAVOneShotTune"]["steps"] == 7
    assert inputs["What the clip shows"]["text"] == SOURCE and inputs["What the edit shows"]["text"] == EDIT


def make_small(page: Any) -> None:
    """Few frames and steps, inside the blueprint."""
    page.evaluate(
        """small => { const { subgraph } = window.app.graph.nodes.find(node => node.subgraph)
            for (const node of subgraph.nodes) for (const widget of node.widgets ?? [])
                widget.value = small[node.type]?.[widget.name] ?? widget.value }""",
        SMALL | {"TAVSample": dict(steps=2)},
    )


@pytest.mark.parametrize("way", ["published", CONTENT])
def test_blueprint_runs_on_the_bundled_model(page: Any, server: Server, way: str) -> None:
    assert browser.load(page, placed(bundled=True)) == []
    choose(page, "caption", SOURCE)
    choose(page, "edit", EDIT)
    choose(page, "tuning_steps", 2)
    choose(page, "way", way)
    make_small(page)
    outcome = server.wait(browser.run(page))
    assert outcome.succeeded, outcome.history["status"]
    (file,) = (output["images"][0] for output in outcome.history["outputs"].values() if "blueprint" in str(output))
    assert server.view(file)


@pytest.mark.parametrize(("given", "missing"), [("edit", "clip"), ("caption", "edit")])
def test_blueprint_without_a_text_is_refused_with_the_remedy(
    page: Any, server: Server, given: str, missing: str
) -> None:
    assert browser.load(page, placed(bundled=True)) == []
    choose(page, given, EDIT)
    choose(page, "tuning_steps", 2)
    make_small(page)
    failed = server.wait(browser.run(page)).message("execution_error")
    assert failed and f"is empty: write what the {missing} shows" in failed["exception_message"]
