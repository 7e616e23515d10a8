"""The nodes in a host that loads models onto a device and unloads them, on a machine without a GPU.

COMFYUI_DEVICE=second runs all other tests in that host too.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.comfyui import prompts
from tests.comfyui.client import SECOND_DEVICE, Server
from tests.comfyui.prompts import edit_prompt, node

WATCHED = "watched"
LEVELS = 2.0  # of 255, by which pictures may differ on average: attention is computed by another kernel


@pytest.fixture(scope="module")
def distant(comfyui: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from started(comfyui, tmp_path_factory.mktemp("device"))


def started(comfyui: tuple[Path, str], base: Path) -> Iterator[Server]:
    """A server with the device, while the test or the module runs."""
    running = Server(*comfyui, base, SECOND_DEVICE)
    if "TestStaysOnTheDevice" not in running.get("/object_info"):
        running.stop()
        pytest.skip("the host's torch has no Python backends; the device of these tests is one")
    yield running
    running.stop()


def watched(**changes: Any) -> dict[str, Any]:
    """The whole method; each pass of the model is checked to run on the device, out of inference mode."""
    prompt = edit_prompt(**changes)
    prompt[WATCHED] = node("TestStaysOnTheDevice", model=[prompts.INFLATE, 0])
    prompt[prompts.TUNE]["inputs"]["model"] = [WATCHED, 0]
    return prompt


def frames(video: bytes) -> np.ndarray:
    with av.open(io.BytesIO(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(float)


def video_of(server: Server, prompt: dict[str, Any]) -> bytes:
    return server.view(server.run(prompt).files(prompts.SAVE)[0])


def test_edit_on_the_device_equals_that_on_the_cpu(server: Server, distant: Server) -> None:
    there = frames(video_of(distant, watched()))
    here = frames(video_of(server, edit_prompt()))
    assert there.shape == here.shape
    assert abs(there - here).mean() < LEVELS


def test_unloading_the_model_does_not_change_the_edit(distant: Server) -> None:
    first = video_of(distant, watched(**{prompts.TUNE: {"seed": 2}}))
    distant.free()
    assert video_of(distant, watched(**{prompts.TUNE: {"seed": 2}})) == first


def test_previews_do_not_change_the_edit_on_the_device(distant: Server) -> None:
    previews = dict(preview_every=1, preview_prompt=[prompts.PROMPT, 0], preview_vae=[prompts.MODEL, 2])
    plain, shown = ({"seed": 3}, {"seed": 3} | previews)
    expected, got = (frames(video_of(distant, watched(**{prompts.TUNE: tune}))) for tune in (plain, shown))
    assert (got == expected).all()


def test_frozen_weights_in_bfloat16(distant: Server, server: Server) -> None:
    precise = {prompts.INFLATE: {"precision": "bfloat16"}}
    there, here = frames(video_of(distant, watched(**precise))), frames(video_of(server, edit_prompt(**precise)))
    assert abs(there - here).mean() < 3 * LEVELS


@pytest.fixture
def frugal(comfyui: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """As started with --novram."""
    monkeypatch.setenv("COMFYUI_VRAM_STATE", "NO_VRAM")
    yield from started(comfyui, tmp_path)


def test_edit_with_novram(frugal: Server) -> None:
    """Our modules have none of the host's own layers, the only ones that it loads one by one."""
    assert frames(video_of(frugal, watched())).shape == (4, 64, 64, 3)
