"""A workflow as nodes by name, and its two formats: that of the browser, and that of POST /prompt."""

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.layout import lay_out
from tools.workflows.schemas import inputs_of, options_of, sockets_of, widgets_of

PACK = {"cnr_id": "tune-a-video", "ver": "0.1.0"}
CORE = {"cnr_id": "comfy-core"}
SD15 = {
    "name": "v1-5-pruned-emaonly-fp16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    "directory": "checkpoints",
}


@dataclass
class Workflow:
    """Nodes by name: (type, inputs, title). A link is a pair (name, slot)."""

    note: str
    nodes: dict[str, tuple[str, dict[str, Any], str]] = field(default_factory=dict)
    text: tuple[str, int] = ("model", 1)  # the CLIP that prompts are encoded with

    def add(self, name: str, kind: str, title: str = "", **inputs: Any) -> tuple[str, int]:
        self.nodes[name] = (kind, inputs, title)
        return name, 0

    def number(self, name: str) -> int:
        """The id of a node, from 1."""
        return list(self.nodes).index(name) + 1


def is_link(value: Any) -> bool:
    return isinstance(value, tuple)


def api_format(workflow: Workflow, infos: dict[str, Any]) -> dict[str, Any]:
    """What POST /prompt takes; every widget is written out."""
    prompt = {}
    for name, (kind, given, title) in workflow.nodes.items():
        inputs = widgets_of(infos[kind]) | given
        inputs = {key: [str(workflow.number(v[0])), v[1]] if is_link(v) else v for key, v in inputs.items()}
        entry = {"class_type": kind, "inputs": inputs, "_meta": {"title": title or infos[kind]["display_name"]}}
        prompt[str(workflow.number(name))] = entry
    return prompt


def ui_format(workflow: Workflow, infos: dict[str, Any], name: str) -> dict[str, Any]:
    """What the browser loads."""
    nodes, links = ui_nodes(workflow, infos)
    note_id = len(nodes) + 1
    note = dict(id=note_id, type="MarkdownNote", flags={}, order=0, mode=0, inputs=[], outputs=[], title="Read me")
    note |= dict(properties={}, widgets_values=[workflow.note])
    groups, extra = lay_out([note, *nodes])
    return dict(
        **dict(id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)), revision=0, last_node_id=note_id, last_link_id=len(links)),
        **dict(nodes=[*nodes, note], links=links, groups=groups, config={}, extra=extra, version=0.4),
    )


def ui_nodes(workflow: Workflow, infos: dict[str, Any]) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """Nodes, numbered from 1 in their order, and links: (number, node, its slot, node, its slot, type)."""
    links: list[list[Any]] = []
    nodes = [_ui_node(workflow, infos, name, links) for name in workflow.nodes]
    for link_id, source, slot, *_ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(link_id)
    return nodes, links


def _ui_node(workflow: Workflow, infos: dict[str, Any], name: str, links: list[list[Any]]) -> dict[str, Any]:
    kind, _, title = workflow.nodes[name]
    info, number = infos[kind], workflow.number(name)
    properties = {"Node name for S&R": kind, **(PACK if kind.startswith("TAV") else CORE)}
    if kind == "CheckpointLoaderSimple":
        properties["models"] = [SD15]
    outputs = zip(info["output_name"], info["output"], strict=True)
    return dict(
        **dict(id=number, type=kind, flags={}, order=number, mode=0),
        inputs=_ui_inputs(workflow, infos, name, links),
        outputs=[{"name": label, "type": output, "links": []} for label, output in outputs],
        **dict(properties=properties, widgets_values=_ui_values(workflow, infos, name)),
        **({"title": title} if title else {}),
    )


def _ui_inputs(workflow: Workflow, infos: dict[str, Any], name: str, links: list[list[Any]]) -> list[dict[str, Any]]:
    """Sockets, then the widgets that are linked. It adds to `links`."""
    kind, given, _ = workflow.nodes[name]
    types = {key: spec[0] for key, spec in inputs_of(infos[kind]).items()}
    inputs = [{"name": key, "type": types[key], "link": None} for key in sockets_of(infos[kind])]
    for key in widgets_of(infos[kind]):
        if is_link(given.get(key)):
            inputs.append({"name": key, "type": types[key], "link": None, "widget": {"name": key}})
    for slot, entry in enumerate(inputs):
        if is_link(given.get(entry["name"])):
            source, source_slot = given[entry["name"]]
            sent = infos[workflow.nodes[source][0]]["output"][source_slot]
            entry["link"] = len(links) + 1
            links.append([entry["link"], workflow.number(source), source_slot, workflow.number(name), slot, sent])
    return inputs


def _ui_values(workflow: Workflow, infos: dict[str, Any], name: str) -> list[Any]:
    kind, given, _ = workflow.nodes[name]
    values = []
    for key, default in widgets_of(infos[kind]).items():
        values.append(default if is_link(given.get(key)) else given.get(key, default))
        if options_of(infos[kind], key).get("control_after_generate"):
            values.append("fixed")  # the browser's own widget, beside a seed
    if kind == "TAVLoadVideo":
        values.append("image")  # the browser's upload button, which it puts behind all others
    return values


def write(path: Path, content: Any) -> None:
    """Write JSON as the files of workflows and locales have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
