"""Write subgraphs/Tune-A-Video edit.json, a blueprint for ComfyUI's node library: clip, caption, edit -> video.

    python -m tools.make_blueprint

It is the template *edit_sd15* as one node, with both ways to edit in it. ComfyUI finds blueprints in the folder
`subgraphs` of a node pack. The format is that of a workflow with one node, and the definition of its subgraph.
"""

import uuid
from typing import Any

from tav_core.presets import PUBLISHED
from tools.layout import GAP, LEFTS, WIDTHS, lay_out
from tools.make_workflows import ROOT
from tools.workflows.formats import PACK, Workflow, ui_nodes, write
from tools.workflows.parts import base, edited, inverted, tuned
from tools.workflows.schemas import inputs_of, read_schemas

NAME = "Tune-A-Video edit"
FILE = ROOT / "subgraphs" / f"{NAME}.json"
INPUT, OUTPUT = -10, -20  # the page's ids of what goes into a subgraph, and comes out
# Name and label of each input, and the node and the input inside that it feeds. All but the first are widgets.
INPUTS = (
    ("clip", "clip", "clip", "video"),
    ("caption", "what the clip shows", "caption", "text"),
    ("edit", "what the edit shows", "prompt", "text"),
    ("checkpoint", "checkpoint", "model", "ckpt_name"),
    ("way", "way", "sample", "way"),
    ("tuning_steps", "tuning steps", "tune", "steps"),
    ("guidance", "guidance", "sample", "guidance"),
)
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
SIZE = [340, 420]
DESCRIPTION = (
    "Edits a short clip by words: tunes a Stable Diffusion checkpoint on the clip, then samples it under another "
    "prompt, so that the motion stays. Connect Load Video, write what the clip shows and what the edit shows."
)


def inside(infos: dict[str, Any]) -> Workflow:
    """The nodes of the subgraph. Its texts are empty: those of another clip would mislead."""
    workflow = Workflow("")
    base(workflow, bundled=False, caption="")
    model = tuned(workflow, PUBLISHED)
    inverted(workflow, model, PUBLISHED)
    edit = edited(workflow, model, PUBLISHED, "", "published", infos)
    workflow.add("video", "CreateVideo", images=edit, fps=("clip", 1), audio=("clip", 3))
    return workflow


def blueprint(infos: dict[str, Any]) -> dict[str, Any]:
    """What the browser takes for a blueprint."""
    workflow = inside(infos)
    numbers = {name: workflow.number(name) for name in workflow.nodes}
    nodes, links = ui_nodes(workflow, infos)
    inputs = [_outer_input(nodes, numbers, infos, links, slot) for slot in range(len(INPUTS))]
    links.append([len(links) + 1, numbers["video"], 0, OUTPUT, 0, "VIDEO"])
    nodes[numbers["video"] - 1]["outputs"][0]["links"].append(len(links))
    groups, _ = lay_out(nodes)
    output = dict(id=_id("video"), name="VIDEO", type="VIDEO", linkIds=[len(links)], pos=[0, 0])
    state = dict(lastGroupId=len(groups), lastNodeId=len(nodes), lastLinkId=len(links), lastRerouteId=0)
    right = LEFTS[-1] + WIDTHS[-1] + GAP
    definition = dict(
        **dict(id=_id("subgraph"), version=1, state=state, revision=0, config={}, name=NAME),
        inputNode=dict(id=INPUT, bounding=[-220, 0, 160, 200]),
        outputNode=dict(id=OUTPUT, bounding=[right, 0, 120, 60]),
        **dict(inputs=inputs, outputs=[output], widgets=[], nodes=nodes, groups=groups),
        links=[dict(zip(LINK, link, strict=True)) for link in links],
        **dict(extra={}, category="Video generation and editing/Video Edit", description=DESCRIPTION),
    )
    number = len(nodes) + 1
    return dict(
        **dict(revision=0, last_node_id=number, last_link_id=0, nodes=[_node(number, numbers, inputs)], links=[]),
        **dict(version=0.4, definitions={"subgraphs": [definition]}, extra={}),
    )


def _outer_input(
    nodes: list[dict[str, Any]], numbers: dict[str, int], infos: dict[str, Any], links: list[list[Any]], slot: int
) -> dict[str, Any]:
    """An input of the subgraph, linked to the one inside that it feeds."""
    name, label, target, key = INPUTS[slot]
    node = nodes[numbers[target] - 1]
    kind = inputs_of(infos[node["type"]])[key][0]
    kind = "COMBO" if isinstance(kind, list) else kind
    entry = next((entry for entry in node["inputs"] if entry["name"] == key), None)
    if entry is None:
        entry = {"name": key, "type": kind, "widget": {"name": key}}
        node["inputs"].append(entry)
    entry["link"] = len(links) + 1
    links.append([entry["link"], INPUT, slot, node["id"], node["inputs"].index(entry), kind])
    return dict(id=_id(name), name=name, type=kind, linkIds=[entry["link"]], label=label, pos=[0, 20 * slot])


def _node(number: int, numbers: dict[str, int], inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The one node that a user sees."""
    sockets = [dict(name=entry["name"], label=entry["label"], type=entry["type"], link=None) for entry in inputs]
    for entry in sockets[1:]:
        entry["widget"] = {"name": entry["name"]}
    shown = [[str(numbers[target]), key] for _, _, target, key in INPUTS[1:]]
    return dict(
        **dict(id=number, type=_id("subgraph"), pos=[0, 0], size=SIZE, flags={}, order=0, mode=0, inputs=sockets),
        outputs=[dict(name="VIDEO", type="VIDEO", links=[])],
        **dict(properties={"proxyWidgets": shown, **PACK}, widgets_values=[], title=NAME),
    )


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{NAME}/{name}"))


def main() -> None:
    write(FILE, blueprint(read_schemas()))


if __name__ == "__main__":
    main()
