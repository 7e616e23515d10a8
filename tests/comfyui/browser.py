"""ComfyUI's page in a headless Chromium. Needs the Python package playwright and a Chromium of the system.

CHROMIUM      its file; the one on PATH if not set
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.comfyui.client import Server

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PAGE_MILLISECONDS = 180_000
# The nodes are there, and the page has opened the workflow that it begins with: until then it replaces what is loaded.
READY = (
    "() => window.LiteGraph?.registered_node_types['TAVSample']"
    " && window.app?.extensionManager?.workflow?.activeWorkflow"
)
TEMPLATE = "template"
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False}


@contextmanager
def opened(server: Server, width: int = 1600, height: int = 900) -> Iterator[Any]:
    """The page of a server, with all nodes registered."""
    from playwright.sync_api import sync_playwright

    for name, value in SETTINGS.items():
        server.post(f"/settings/{name}", value)
    arguments = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield ready(browser.new_page(viewport={"width": width, "height": height}), server)
        browser.close()


def ready(page: Any, server: Server) -> Any:
    """A fresh page of the browser, when it shows ComfyUI with all nodes registered."""
    page.set_default_timeout(PAGE_MILLISECONDS)
    page.goto(server.url("/"))
    page.wait_for_function(READY)
    return page


def load(page: Any, workflow: dict[str, Any], source: str | None = None) -> list[str]:
    """Open a workflow, as a file or as a choice of the template dialog; returns the node types that are not registered.

    Arguments:
        source: None for a file, TEMPLATE for the template dialog, which fits the view to the nodes.
    """
    page.evaluate(
        "async ([text, openSource]) => { await window.app.loadGraphData("
        "JSON.parse(text), true, true, null, openSource ? { openSource } : {}) }",
        [json.dumps(workflow), source],
    )
    return page.evaluate(
        "() => window.app.graph._nodes.map(node => node.type)"
        ".filter(type => !(type in window.LiteGraph.registered_node_types))"
    )


def run(page: Any) -> str:
    """Press Run, so that the page shows the results; returns the id of the prompt."""
    with page.expect_response("**/prompt") as answer:
        page.evaluate("async () => { await window.app.queuePrompt(0) }")
    return answer.value.json()["prompt_id"]


def prompt_of(page: Any) -> dict[str, Any]:
    """The prompt of the open workflow, in API format."""
    return page.evaluate("async () => (await window.app.graphToPrompt()).output")
