"""Stop, full disks, too little memory, deleted files, in every phase: one clear error, and the next prompt works."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.comfyui import prompts
from tests.comfyui.client import Events, Outcome, Server
from tests.comfyui.prompts import edit_prompt, node

LONG, WIDE, HIGH = 256, 1280, 720  # a clip that takes seconds to decode
AFTERWARDS = edit_prompt("a white person jumps on the beach, flat colours")


@pytest.fixture(scope="module")
def long_clip(server: Server) -> str:
    """A clip in the input folder, of the host."""
    name, grey = "long.mp4", np.full((HIGH, WIDE, 3), 90, np.uint8)
    with av.open(server.base / "input" / name, "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, "yuv420p"
        for _ in range(LONG):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return name


def until_begun(events: Events, name: str) -> None:
    """Wait until a node begins."""
    while True:
        event = events.next()
        if event["type"] == "executing" and event["data"].get("node") == name:
            return
        assert event["type"] not in ("execution_error", "execution_success"), event


def stopped(server: Server, prompt: dict[str, Any], name: str, seconds: float = 0.3) -> Outcome:
    """The outcome of a prompt that is stopped so many seconds after a node began."""
    server.free()
    events = Events(server, "stop")
    prompt_id = server.submit(prompt, client_id="stop")
    until_begun(events, name)
    events.close()
    time.sleep(seconds)
    server.post("/interrupt", {})
    outcome = server.wait(prompt_id)
    assert outcome.message("execution_interrupted") is not None, outcome.history["status"]
    return outcome


def output_files(server: Server) -> set[Path]:
    return {path for path in (server.base / "output").rglob("*") if path.is_file()}


def where(outcome: Outcome) -> str:
    """The node that was stopped."""
    message = outcome.message("execution_interrupted")
    assert message is not None
    return message["node_id"]


def test_stop_while_reading_a_video(server: Server, long_clip: str) -> None:
    prompt = edit_prompt(clip=dict(file=long_clip, num_frames=LONG, stride=1))
    assert where(stopped(server, prompt, prompts.CLIP)) == prompts.CLIP
    server.run(AFTERWARDS)


@pytest.mark.parametrize("form", ["mp4", "webm", "gif"])
def test_stop_while_saving_a_video_leaves_no_file(server: Server, long_clip: str, form: str) -> None:
    load = dict(file=long_clip, num_frames=96, width=1024, height=1024, stride=1)
    prompt = {
        prompts.CLIP: node("TAVLoadVideo", **load),
        prompts.SAVE: node("TAVSaveVideo", images=[prompts.CLIP, 0], fps=8.0, filename_prefix="stopped", format=form),
    }
    before = output_files(server)
    assert where(stopped(server, prompt, prompts.SAVE)) == prompts.SAVE
    assert output_files(server) == before
    server.run(AFTERWARDS)


@pytest.mark.parametrize(("phase", "after"), [(prompts.ENCODE, prompts.TUNE), (prompts.DECODE, prompts.SAVE)])
def test_stop_within_a_host_node_acts_before_the_next_node(server: Server, phase: str, after: str) -> None:
    """Encoding and decoding are host nodes, which Stop does not end: no node of the pack runs after them."""
    before = output_files(server)
    prompt = edit_prompt(steps=2, tuning_steps=1, clip=dict(num_frames=8, width=256, height=256, stride=1))
    message = stopped(server, prompt, phase).message("execution_interrupted")
    assert message is not None and after not in message["executed"]
    assert output_files(server) == before
    server.run(AFTERWARDS)


def test_stop_acts_within_one_step_of_a_preview(server: Server) -> None:
    """A preview samples ten steps between two steps of the tuning; Stop waits for one of the ten, not for all."""
    tune = dict(preview_every=1, preview_prompt=[prompts.PROMPT, 0], preview_vae=[prompts.MODEL, 2], steps=900, seed=6)
    prompt = edit_prompt(tune=tune, clip=dict(num_frames=16, width=256, height=256, stride=1))
    events = Events(server, "stop")
    prompt_id = server.submit(prompt, client_id="stop")
    events.until_step(prompts.TUNE, 1)
    began = time.monotonic()
    reached = events.until_step(prompts.TUNE, 2)
    one_round = time.monotonic() - began  # a step of the tuning and a preview
    time.sleep(one_round / 2)
    stop = time.monotonic()
    server.post("/interrupt", {})
    outcome = server.wait(prompt_id)
    heard_after = time.monotonic() - stop
    events.close()
    assert reached == 2 and where(outcome) == prompts.TUNE
    assert heard_after < one_round / 3
    server.run(AFTERWARDS)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of so many kB in place of a folder. Only root may do that."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.name == "nt" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("form", ["mp4", "webm", "gif"])
def test_full_disk_while_saving_a_video(server: Server, form: str) -> None:
    """An error on the right node, in one sentence, and no partial file."""
    prompt = edit_prompt(save=dict(filename_prefix="full/edit", format=form, crf=0))
    with small_disk(server.base / "output" / "full", 4) as disk:
        name, message = server.error_of(prompt)
        assert name == prompts.SAVE and "No space left on device" in message
        assert "\n" not in message.strip()
        assert list(disk.iterdir()) == []
    server.run(prompt)


def test_full_disk_while_saving_tuned_weights(server: Server) -> None:
    prompt = edit_prompt() | {
        "keep": node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="full/person"),
    }
    with small_disk(server.base / "models" / "tune_a_video" / "full", 64) as disk:
        name, message = server.error_of(prompt)
        assert name == "keep" and "The disk is full" in message and "MB are free" in message
        assert list(disk.iterdir()) == []
    server.run(prompt)


@pytest.mark.parametrize(("kept", "seed"), [(prompts.TUNE, 51), (prompts.INVERT, 52)])
def test_full_disk_of_the_store(server: Server, kept: str, seed: int) -> None:
    prompt = edit_prompt(tune=dict(seed=seed), invert={})
    prompt[kept]["inputs"]["keep"] = True
    with small_disk(server.base / "models" / "tune_a_video_store", 16) as disk:
        name, message = server.error_of(prompt)
        assert name == kept and "The disk is full" in message
        assert message.strip().endswith("Or switch keep off.")
        assert not list(disk.glob("*.safetensors")) and not list(disk.glob("*.tmp"))
    server.run(prompt)


@pytest.mark.parametrize(("kept", "seed"), [(prompts.TUNE, 53), (prompts.INVERT, 54)])
def test_store_folder_that_cannot_be_made_has_a_remedy_on_the_node(server: Server, kept: str, seed: int) -> None:
    """Shared models folders are often read-only. Root can write to those, so a file replaces the folder here."""
    prompt = edit_prompt(tune=dict(seed=seed), invert={})
    prompt[kept]["inputs"]["keep"] = True
    store = server.base / "models" / "tune_a_video_store"
    if store.exists():
        store.rename(store.with_name("away"))
    store.parent.mkdir(exist_ok=True)
    store.touch()
    try:
        name, message = server.error_of(prompt)
    finally:
        store.unlink()
    assert name == kept
    assert message.strip().endswith("Choose a folder in which files can be made. Or switch keep off.")
    prompt[kept]["inputs"]["keep"] = False
    server.run(prompt)


@pytest.mark.parametrize(("times", "ends"), [(1, "in tiles"), (2, "in an error")])
def test_out_of_memory_while_decoding(server: Server, times: int, ends: str) -> None:
    """The host then decodes in tiles, which the bundled VAE supports; if that fails too, its node shows the error."""
    server.free()
    prompt = edit_prompt(decode=dict(vae=["fault", 0]))
    prompt["fault"] = node("TestRunOutOfMemoryInVAE", vae=[prompts.MODEL, 2], times=times)
    if ends == "in tiles":
        assert server.run(prompt).files(prompts.SAVE)
    else:
        name, message = server.error_of(prompt)
        assert name == prompts.DECODE and "out of memory" in message
    server.free()
    server.run(AFTERWARDS)


def test_out_of_memory_in_a_preview_has_advice(server: Server) -> None:
    server.free()
    tune = dict(preview_every=2, preview_prompt=[prompts.PROMPT, 0], preview_vae=["fault", 0], seed=8)
    prompt = edit_prompt(tune=tune)
    prompt["fault"] = node("TestRunOutOfMemoryInVAE", vae=[prompts.MODEL, 2], times=2)
    name, message = server.error_of(prompt)
    assert name == prompts.TUNE and "First set gradient_checkpointing to on" in message
    server.free()
    server.run(AFTERWARDS)


def test_video_deleted_while_its_prompt_waits_is_named(server: Server) -> None:
    copy = server.base / "input" / "doomed.mp4"
    copy.write_bytes(
        (server.base / "custom_nodes" / "tune-a-video" / "tav_core" / "assets" / "demo-clip.mp4").read_bytes()
    )
    events = Events(server, "doomed")
    running = server.submit(edit_prompt(tune=dict(steps=10000, seed=22)), client_id="doomed")
    until_begun(events, prompts.TUNE)
    events.close()
    queued = server.submit(edit_prompt(clip=dict(file=copy.name)))
    copy.unlink()
    server.post("/interrupt", {})
    server.wait(running)
    failed = server.wait(queued).message("execution_error")
    assert failed is not None and failed["node_id"] == prompts.CLIP
    assert "There is no 'doomed.mp4'" in failed["exception_message"]
    server.run(AFTERWARDS)


def test_bundled_model_deleted_while_its_prompt_waits_is_named(server: Server) -> None:
    server.free()
    model = server.base / "custom_nodes" / "tune-a-video" / "tav_core" / "assets" / "demo-model"
    model.rename(model.with_name("away"))
    try:
        name, message = server.error_of(edit_prompt())
    finally:
        model.with_name("away").rename(model)
    assert name == prompts.MODEL and "demo-model" in message
    server.run(AFTERWARDS)
