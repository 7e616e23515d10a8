"""What the schemas of the nodes say: inputs, widgets, and the texts of the browser."""

import json
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).parents[1] / "object_info.json"  # of a running host; its tests compare the two
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def read_schemas() -> dict[str, Any]:
    """The schema of each node by its type, as GET /object_info gives it."""
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def inputs_of(info: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a node, the required ones first: (type or choices, and perhaps options) by name."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def options_of(info: dict[str, Any], name: str) -> dict[str, Any]:
    """The options of an input."""
    _, *rest = inputs_of(info)[name]
    return rest[0] if rest else {}


def widgets_of(info: dict[str, Any]) -> dict[str, Any]:
    """Names and defaults of a node's widgets, in the order in which the browser keeps their values."""
    found = {}
    for name, (kind, *_) in inputs_of(info).items():
        options = options_of(info, name)
        if isinstance(kind, list) or (kind in WIDGETS and not options.get("forceInput")):
            choices = kind if isinstance(kind, list) else options.get("options")
            found[name] = options.get("default", choices[0] if choices else "")
    return found


def sockets_of(info: dict[str, Any]) -> dict[str, str]:
    """Names and types of the inputs that take nothing but a link."""
    widgets = widgets_of(info)
    return {name: kind for name, (kind, *_) in inputs_of(info).items() if name not in widgets}


def english(infos: dict[str, Any]) -> dict[str, Any]:
    """The texts of our nodes as the browser's locale files hold them."""
    texts = {}
    for name in sorted(name for name in infos if name.startswith("TAV")):
        info = infos[name]
        labels = zip(info["output_name"], info["output_tooltips"], strict=True)
        texts[name] = dict(
            display_name=info["display_name"],
            description=info["description"],
            inputs={
                key: dict(name=spec[1].get("display_name") or key, tooltip=spec[1]["tooltip"])
                for key, spec in inputs_of(info).items()
            },
            outputs={str(slot): dict(name=label, tooltip=tip) for slot, (label, tip) in enumerate(labels)},
        )
    return texts
