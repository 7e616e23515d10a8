"""What the server tells the page while a node works: step, loss and time left, and never silence for over 2 s."""

import json
import re
import threading
import time
import uuid
from collections import defaultdict
from typing import Any

import pytest

from tests.comfyui import prompts
from tests.comfyui.client import Events, Server
from tests.comfyui.prompts import edit_prompt, node

SILENCE = 2.0  # seconds
SLOW = 2.6  # seconds that a pass, or reading a video, takes
TEXT_EVENT = 3  # the server's number for a text of a node


class Pauses:
    """When the whole server was at rest: Python's garbage collector, or a busy machine, stops each of its threads."""

    def __init__(self, server: Server):
        self.server, self.spans, self.ended = server, [(0.0, 0.0)], threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Pauses":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(0.1):
            began = time.monotonic()
            self.server.get("/prompt")
            self.spans.append((began, time.monotonic()))

    def within(self, began: float, ended: float) -> float:
        """Seconds of a span in which the server answered nothing."""
        return sum(max(0.0, min(ended, last) - max(began, first)) for first, last in self.spans)


def told(server: Server, prompt: dict[str, Any]) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Run a prompt; the longest silence of each node while it and the server ran, in seconds, and its texts."""
    gaps, texts = [], defaultdict(list)
    client = uuid.uuid4().hex
    events = Events(server, client)
    with Pauses(server) as pauses:
        prompt_id, running, last = server.submit(prompt, client), None, time.monotonic()
        while True:
            kind, payload = events.frame()
            now = time.monotonic()
            gaps.append((running, last, now))
            last = now
            message = json.loads(payload) if kind == 1 else {"type": "binary", "data": {}}
            if kind == 2 and int.from_bytes(payload[:4], "big") == TEXT_EVENT:
                length = int.from_bytes(payload[4:8], "big")
                texts[payload[8 : 8 + length].decode()].append(payload[8 + length :].decode())
            elif message["type"] == "executing" and message["data"].get("prompt_id") == prompt_id:
                running = message["data"]["node"]
            elif message["type"] in ("execution_success", "execution_error"):
                break
    events.close()
    assert message["type"] == "execution_success", message
    longest: dict[str, float] = defaultdict(float)
    for name, began, ended in gaps:
        longest[name] = max(longest[name], ended - began - pauses.within(began, ended))
    return dict(longest), dict(texts)


def slowed(seconds: float) -> dict[str, Any]:
    """An edit whose passes, and whose video, are slow."""
    prompt = edit_prompt(tuning_steps=2, steps=2, clip=dict(video=["slow video", 0]))
    prompt["slow video"] = node("TestSlowVideo", seconds=seconds)
    prompt["slow"] = node("TestSlowModel", model=[prompts.INFLATE, 0], seconds=seconds)
    prompt[prompts.TUNE]["inputs"]["model"] = ["slow", 0]
    return prompt


@pytest.mark.slow
def test_no_node_of_the_pack_is_silent_while_it_works(server: Server) -> None:
    server.free()
    prompt = slowed(SLOW)
    longest, texts = told(server, prompt)
    ours = [name for name, entry in prompt.items() if entry["class_type"].startswith("TAV")]
    assert {name: seconds for name, seconds in longest.items() if name in ours and seconds > SILENCE} == {}
    for name in (prompts.TUNE, prompts.INVERT, prompts.SAMPLE):
        assert any(re.search(r"step 1 of 2.* left", text) for text in texts[name]), texts[name]
    assert any(re.search(r"step 1 of 2, loss \d\.\d+, .* left", text) for text in texts[prompts.TUNE])
    assert any(re.fullmatch(r"working, \d+ s so far", text) for text in texts[prompts.CLIP])
    assert "2 frames of 64 x 64" in texts[prompts.CLIP][-1]


@pytest.mark.slow
def test_every_report_is_the_last_text_of_its_node(server: Server) -> None:
    """So that it stays there. Those of nodes that only pass something on say nothing."""
    prompt = edit_prompt(tuning_steps=2, steps=2)
    found = dict(model=[prompts.TUNE, 0], latents=[prompts.ENCODE, 0], caption=[prompts.CAPTION, 0])
    found |= dict(positive=[prompts.PROMPT, 0], negative=[prompts.EMPTY, 0], conditioning=[prompts.EMPTY, 0])
    prompt["find"] = node("TAVFindStrength", **found, steps=2, guidance=2.5)
    prompt["show"] = node("PreviewAny", source=["find", 1])
    prompt["evaluate"] = node("TAVEvaluate", source=[prompts.CLIP, 0], edit=[prompts.DECODE, 0], prompt="a person")
    prompt["keep"] = node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="told")
    prompt["export"] = node("TAVExportTuned", model=[prompts.TUNE, 0], kind="lora", error=0.5, filename_prefix="told")
    server.free()
    _, texts = told(server, prompt)
    wanted = {
        prompts.CLIP: "frames of 64 x 64", prompts.INFLATE: "The model predicts", prompts.TUNE: "loss",
        prompts.INVERT: "steps in", prompts.SAMPLE: "steps in", "find": "taken: ", "evaluate": "PSNR",
        "keep": "Saved as told", "export": "Saved told",
    }  # fmt: skip
    assert {name: text for name, text in wanted.items() if text not in texts.get(name, [""])[-1]} == {}
