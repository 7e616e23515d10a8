"""Workflows, help pages and locales, compared with the snapshot of the nodes. Needs no ComfyUI."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tav_core.presets import BUNDLED
from tav_core.store.export import ERROR, KINDS
from tav_core.store.store import MAX_BYTES
from tav_core.unet.inflate import GROUP_NORM_MODES
from tav_core.video.choose import FITS
from tests.comfyui.client import archived
from tools import make_blueprint, make_workflows
from tools.workflows.formats import ui_format
from tools.workflows.schemas import english, sockets_of, widgets_of

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).parents[2] / "tools" / "object_info.json"
INFOS: dict[str, Any] = json.loads(SNAPSHOT.read_text(encoding="utf-8")) if SNAPSHOT.exists() else {}
OURS = sorted(name for name in INFOS if name.startswith("TAV"))
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
BROWSERS_OWN = ("image", "fixed")  # values of the upload button, and of what a seed does after a run


def api_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """The prompt that the browser sends for a workflow file, without titles and notes."""
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        values = [value for value in node["widgets_values"] if value not in BROWSERS_OWN]
        inputs = dict(zip(widgets_of(INFOS[node["type"]]), values, strict=True))
        for slot in node["inputs"]:
            if slot["link"] is not None:
                _, source, source_slot, target, target_slot, kind = links[slot["link"]]
                assert target == node["id"] and node["inputs"][target_slot] is slot
                source_node = next(other for other in workflow["nodes"] if other["id"] == source)
                assert source_node["outputs"][source_slot]["type"] == kind
                assert slot["link"] in source_node["outputs"][source_slot]["links"]
                inputs[slot["name"]] = [str(source), source_slot]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_equals_its_api_file(path: Path) -> None:
    twin = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    for node in twin.values():
        node.pop("_meta")
    assert api_of(json.loads(path.read_text(encoding="utf-8"))) == twin


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_gives_every_required_input(path: Path) -> None:
    twin = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    for node in twin.values():
        info = INFOS[node["class_type"]]
        assert set(info["input"].get("required", {})) <= set(node["inputs"])
        assert set(node["inputs"]) <= {*widgets_of(info), *sockets_of(info)}


@pytest.mark.parametrize("name", ["edit_sd15", "edit_sd15_lora"])
def test_templates_for_own_clips_use_seconds_of_the_clip(name: str) -> None:
    """As many as the note says, at the frame rate of the frames that are read."""
    workflow = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    prompt = api_of(workflow)
    (clip,) = (key for key, node in prompt.items() if node["class_type"] == "TAVLoadVideo")
    (save,) = (node for node in prompt.values() if node["class_type"] == "TAVSaveVideo")
    inputs = prompt[clip]["inputs"]
    needed = (inputs["num_frames"] - 1) * inputs["stride"] + 1
    assert 2 < needed / 30 < needed / 24 <= 3
    assert "3 to 4 seconds" in workflow["nodes"][-1]["widgets_values"][0]
    assert save["inputs"]["fps"] == [clip, 1]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_has_a_thumbnail(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG" and picture.width >= 400
    assert path.with_suffix(".jpg").stat().st_size < 100_000


def test_archive_holds_the_files_of_the_pack_alone() -> None:
    """The tests in ComfyUI run on these files."""
    names = archived()
    needed = ["__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "NOTICE", "README.md"]
    needed += [path.relative_to(ROOT).as_posix() for path in (ROOT / "web").rglob("*.md")]
    assert set(needed) <= set(names)
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"example_workflows", "locales", "nodes", "subgraphs", "tav_core", "web"}
    assert sum((ROOT / name).stat().st_size for name in names) < 40e6


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_readmes_describe_installation_and_size_of_the_store(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    first, second = text.index("python -m pip install -r requirements.txt"), text.index("Install via Git URL")
    assert first < second < text.index("`allow_git_url_install = true`")
    assert f"{MAX_BYTES // 10**9} GB" in text and "`models/tune_a_video_store`" in text


def test_icon_and_banner_have_the_sizes_of_the_registry() -> None:
    with Image.open(ROOT / "docs" / "icon.png") as icon, Image.open(ROOT / "docs" / "banner.png") as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21


@pytest.mark.parametrize("name", make_workflows.WORKFLOWS if WORKFLOWS else [])
def test_shipped_workflows_equal_generated_ones(name: str) -> None:
    made = ui_format(make_workflows.WORKFLOWS[name](INFOS), INFOS, name)
    path = ROOT / "example_workflows" / f"{name}.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(made))


@pytest.mark.skipif(not OURS, reason="no snapshot of the nodes yet")
def test_shipped_blueprint_equals_the_generated_one() -> None:
    made = json.loads(json.dumps(make_blueprint.blueprint(INFOS)))
    assert json.loads(make_blueprint.FILE.read_text(encoding="utf-8")) == made


def test_help_names_the_settings_of_the_bundled_model() -> None:
    """In the tooltips and the help pages of One-Shot Tune, in both languages."""
    help_pages = ROOT / "web" / "docs"
    english = (help_pages / "TAVOneShotTune.md").read_text(encoding="utf-8")
    chinese = (help_pages / "TAVOneShotTune" / "zh.md").read_text(encoding="utf-8")
    inputs = INFOS["TAVOneShotTune"]["input"]["required"]
    translated = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    translated = translated["TAVOneShotTune"]["inputs"]
    steps, rate = str(BUNDLED.tuning.steps), f"{BUNDLED.tuning.learning_rate:.0e}".replace("e-0", "e-")
    for text in (english, inputs["steps"][1]["tooltip"]):
        assert f"{steps} for the bundled model" in text
    for text in (chinese, translated["steps"]["tooltip"]):
        assert f"自带模型用 {steps}" in text
    texts = [english, chinese, inputs["learning_rate"][1]["tooltip"], translated["learning_rate"]["tooltip"]]
    assert all(rate in text for text in texts)


@pytest.mark.parametrize("name", OURS)
def test_node_has_a_help_page_in_both_languages(name: str) -> None:
    for page in (ROOT / "web" / "docs" / f"{name}.md", ROOT / "web" / "docs" / name / "zh.md"):
        text = page.read_text(encoding="utf-8")
        assert len(text) > 120, page
        assert not [line for line in text.splitlines() if line.startswith("|")], (
            f"{page}: a table is cut off in the panel"
        )


@pytest.mark.parametrize("name", OURS)
def test_chinese_locale_names_every_input_and_output(name: str) -> None:
    texts = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))[name]
    info = INFOS[name]
    assert set(texts["inputs"]) == {*info["input"].get("required", {}), *info["input"].get("optional", {})}
    assert set(texts["outputs"]) == {str(slot) for slot in range(len(info["output"]))}
    assert all(text["name"] and text["tooltip"] for group in ("inputs", "outputs") for text in texts[group].values())
    assert texts["display_name"] and texts["description"]


def texts_of(workflow: dict[str, Any]) -> set[str]:
    """Titles of nodes and groups, notes, and the labels of a subgraph's inputs."""
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    groups = [group for part in [workflow, *subgraphs] for group in part.get("groups", [])]
    nodes = [node for part in [workflow, *subgraphs] for node in part["nodes"]]
    titles = {part["title"] for part in [*nodes, *groups] if "title" in part}
    notes = {node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote"}
    return titles | notes | {entry["label"] for subgraph in subgraphs for entry in subgraph["inputs"]}


@pytest.mark.parametrize("path", [*WORKFLOWS, make_blueprint.FILE], ids=lambda path: path.stem)
def test_chinese_locale_has_every_text_of_the_templates_and_the_blueprint(path: Path) -> None:
    """The page's extension writes them where a file is opened."""
    chinese = json.loads((ROOT / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))["tuneAVideo"]
    assert texts_of(json.loads(path.read_text(encoding="utf-8"))) <= {text for text in chinese if chinese[text]}


def test_load_clip_has_the_labels_of_video_helper_suite() -> None:
    texts = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))["TAVLoadVideo"]
    labels = {text["name"] for text in texts["inputs"].values()}
    known = {"force_rate", "custom_width", "custom_height", "frame_load_cap", "skip_first_frames", "select_every_nth"}
    assert known <= labels
    assert {"num_frames", "width", "height", "stride"} <= set(texts["inputs"]), "ids stay"


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "docs/guide/comfyui.md"])
def test_help_is_at_the_i_of_the_toolbar(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "**?**" not in text and "**i**" in text


@pytest.mark.skipif(not OURS, reason="no snapshot of the nodes yet")
def test_english_locale_equals_the_schemas() -> None:
    path = ROOT / "locales" / "en" / "nodeDefs.json"
    assert json.loads(path.read_text(encoding="utf-8")) == english(INFOS)


def test_only_adapters_import_comfyui_and_no_file_uses_network_or_subprocess() -> None:
    allowed = {"comfy_api"}
    host = {"comfy", "comfy_execution", "folder_paths", "server", "execution", "nodes", *allowed}
    banned = {"subprocess", "socket", "urllib", "requests", "http", "pickle"}
    for path in [ROOT / "__init__.py", *(ROOT / "nodes").rglob("*.py"), *(ROOT / "tav_core").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
        names |= {
            (n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 0
        }
        calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert not names & banned and not calls & {"eval", "exec"}, path
        if "adapters" not in path.parts:
            assert not names & (host - (allowed if "nodes" in path.parts else set())), path


def test_imports_of_the_host_are_those_that_are_listed() -> None:
    """In docs/compatibility.md; nodes take the versioned API."""
    text = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    rows = text.split("## What the pack takes from ComfyUI")[1].split("##")[0].splitlines()
    listed = {name for row in rows if row.startswith("| `") for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    roots, imported = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server", "nodes"}, set()
    for path in (ROOT / "nodes").rglob("*.py"):
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(part, ast.Import):
                imported |= {alias.name for alias in part.names}
            elif isinstance(part, ast.ImportFrom) and part.level == 0:
                imported.add(part.module or "")
    assert {name for name in imported if name.split(".")[0] in roots} == listed | {"comfy_api.v0_0_2"}


def test_node_files_are_short() -> None:
    for path in (ROOT / "nodes").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150, path


def test_options_of_the_nodes_equal_those_of_the_core() -> None:
    """Written out in the schemas, since importing the core's modules would slow down ComfyUI's start."""
    inflate, load = (INFOS[name]["input"] for name in ("TAVInflateUNet", "TAVLoadVideo"))
    assert inflate["optional"]["group_norm"][1]["options"] == list(GROUP_NORM_MODES)
    assert load["optional"]["fit"][1]["options"] == list(FITS)
    export = INFOS["TAVExportTuned"]["input"]["required"]
    assert export["kind"][1]["options"] == list(KINDS) and export["error"][1]["default"] == ERROR


def test_errors_name_what_is_seen_on_screen() -> None:
    """Labels, not the ids and classes of nodes; TAV_MODEL is the type that the socket shows."""
    for path in (ROOT / "nodes").rglob("*.py"):
        raised = [part for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(part, ast.Raise)]
        texts = [c.value for part in raised for c in ast.walk(part) if isinstance(c, ast.Constant)]
        for text in texts:
            assert not re.search(r"\bTAV[A-Z][a-z]|\b(NoneType|Tensor|ModelPatcher|UNet2D\w+)\b", str(text)), (
                path,
                text,
            )
