"""Strange values in every widget of every node, in a real ComfyUI: one clear error, and the server keeps running.

A part of all pairs of widget and value is drawn from a fixed seed; TAV_HOSTILE_INPUTS sets how many, "all" takes all.
"""

import json
import os
import random
from typing import Any

import pytest

from tests.comfyui import prompts
from tests.comfyui.client import Refused, Server
from tests.comfyui.prompts import edit_prompt, node
from tests.comfyui.test_nodes import SNAPSHOT

COUNT = os.environ.get("TAV_HOSTILE_INPUTS", "60")
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
VALUES: list[Any] = [
    float("nan"), float("inf"), -1, 0, -1e308, 1e308, 2**63, 2**200, None, [], {}, True, "", "nan", "x" * 10_000,
    "שלום עולם", "🎬🦊", "a\x00b", "../../../etc/passwd", "/etc/passwd", "CON", "a b/ü.mp4", "%s%n", "\ud800",
]  # fmt: skip


def whole_prompt() -> dict[str, Any]:
    """Every node of the pack, in one prompt of a few seconds. Each leads to an output: no other one would run."""
    prompt = edit_prompt()
    prompt["compare"] = node("TAVCompareVideos", images_1=[prompts.CLIP, 0], images_2=[prompts.DECODE, 0])
    prompt["steady"] = node("TAVSteady", images=[prompts.DECODE, 0], clip=[prompts.CLIP, 0])
    prompt["find"] = node(
        "TAVFindStrength",
        **dict(model=[prompts.TUNE, 0], latents=[prompts.ENCODE, 0], caption=[prompts.CAPTION, 0]),
        **dict(positive=[prompts.PROMPT, 0], negative=[prompts.EMPTY, 0]),
        **dict(conditioning=[prompts.EMPTY, 0], steps=2, guidance=2.5),
    )
    prompt["evaluate"] = node("TAVEvaluate", source=[prompts.CLIP, 0], edit=[prompts.DECODE, 0], prompt="a dog")
    prompt["keep"] = node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="hostile/person")
    prompt["load"] = node("TAVLoadTuned", model=[prompts.INFLATE, 0], file="base.safetensors", strength=1.0)
    prompt["keep again"] = node("TAVSaveTuned", model=["load", 0], filename_prefix="hostile/again")
    prompt["heat"] = node(
        "TAVWordHeatMaps",
        **dict(model=[prompts.TUNE, 0], latents=[prompts.SAMPLE, 0], images=[prompts.DECODE, 0]),
        **dict(clip=[prompts.MODEL, 1], prompt=prompts.EDIT, mask_words="person"),
    )
    for name in ("compare", "steady", "heat"):
        prompt[f"show {name}"] = node("PreviewImage", images=[name, 0])
    prompt["show find"] = node("PreviewAny", source=["find", 0])
    return prompt


def pairs() -> list[tuple[str, str, Any]]:
    """Node, widget and value."""
    snapshot, found = json.loads(SNAPSHOT.read_text()), []
    for name, entry in whole_prompt().items():
        if not entry["class_type"].startswith("TAV"):
            continue
        for group in ("required", "optional"):
            for widget, spec in snapshot[entry["class_type"]]["input"].get(group, {}).items():
                if isinstance(spec[0], list) or spec[0] in WIDGETS:
                    found += [(name, widget, value) for value in VALUES]
    random.Random(0).shuffle(found)
    return found if COUNT == "all" else found[: int(COUNT)]


def test_strange_inputs_give_a_clear_error(server: Server) -> None:
    server.run({**edit_prompt(), "keep": node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="base")})
    tuned = server.base / "models" / "tune_a_video"
    next(tuned.glob("base_*")).rename(tuned / "base.safetensors")
    outside = {path for path in server.base.parent.rglob("*") if not path.is_relative_to(server.base)}
    faults = []
    for name, widget, value in pairs():
        prompt = whole_prompt()
        prompt[name]["inputs"][widget] = value
        where = f"{prompt[name]['class_type']}.{widget} = {str(value)[:40]!r}"
        try:
            outcome = server.wait(server.submit(prompt))
        except Refused as refused:
            if not refused.answer["node_errors"] and not refused.answer.get("error"):
                faults.append(f"{where}: refused without a reason")
            continue
        failed = outcome.message("execution_error")
        if failed is not None:
            message = failed["exception_message"].strip()
            if (
                not message
                or "\n" in message
                or failed["exception_type"] in ("AttributeError", "KeyError", "IndexError")
            ):
                faults.append(f"{where}: {failed['exception_type']}: {message[:200]}")
    assert faults == []
    assert {path for path in server.base.parent.rglob("*") if not path.is_relative_to(server.base)} == outside
    server.run(edit_prompt("a white person jumps on the beach, flat colours"))


@pytest.mark.parametrize("value", VALUES[-6:])
def test_strange_prompts_run(server: Server, value: str) -> None:
    if value == "\ud800":
        pytest.skip("half a character cannot be sent as text")
    server.run(edit_prompt(value))


@pytest.mark.parametrize(
    "name", ["a\x00b.mp4", "\u202egpj.mp4", "x" * 5000, "a\nb\x1b[31m.mp4", "../..", "größe 🎬.mp4"]
)
def test_invalid_file_name_gives_a_printable_error(server: Server, name: str) -> None:
    prompt = edit_prompt()
    prompt[prompts.CLIP]["inputs"]["file"] = name
    with pytest.raises(Refused) as refused:
        server.submit(prompt)
    (error,) = refused.value.answer["node_errors"][prompts.CLIP]["errors"]
    assert error["details"].isprintable() and 15 < len(error["details"]) < 400
    assert any(word in error["details"] for word in ("cannot be the name of a file", "There is no", "lies outside"))
