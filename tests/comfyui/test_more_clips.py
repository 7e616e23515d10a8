"""Another Clip and the objective of One-Shot Tune: several clips of one motion, in a real ComfyUI."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tav_core import BUNDLED_CLIPS, ClipEditor, Store, TuningConfig, load_model, read_video, trainable_parameters
from tav_core.store.files import read_metadata
from tav_core.store.folder import FORMATS
from tests.comfyui import prompts
from tests.comfyui.client import Events, Server
from tests.comfyui.prompts import edit_prompt, node

SECOND = "a blue person jumps in the snow, flat colours"
CUT = dict(num_frames=4, width=64, height=64, stride=2)  # of edit_prompt


def clips_prompt(second: dict[str, Any] | None = None, text: str = SECOND, **changes: Any) -> dict[str, Any]:
    """Tuned on both bundled clips, and edited.

    Arguments:
        second: inputs of the second Load Clip to replace.
        text: the caption of the second clip.
        changes: as `edit_prompt` takes them.
    """
    prompt = edit_prompt(**changes) | {
        "second": node("TAVLoadVideo", file="tune-a-video-cartwheel-2.mp4", **CUT | (second or {})),
        "second caption": node("CLIPTextEncode", clip=[prompts.MODEL, 1], text=text),
        "second latents": node("VAEEncode", pixels=["second", 0], vae=[prompts.MODEL, 2]),
        "another": node(
            "TAVAnotherClip", latents=["second latents", 0], caption=["second caption", 0], fps=["second", 1]
        ),
    }
    given = dict(more_clips=["another", 0], fps=[prompts.CLIP, 1])
    prompt[prompts.TUNE]["inputs"] = given | prompt[prompts.TUNE]["inputs"]
    return prompt


def tuned_only(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt up to the tuning, whose weights are saved."""
    for name in (prompts.INVERT, prompts.SAMPLE, prompts.DECODE, prompts.SAVE, prompts.PROMPT, prompts.EMPTY):
        del prompt[name]
    return prompt | {"weights": node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="clips/motion")}


def weights_of(server: Server, prompt: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str], str]:
    """The tuned weights, their notes, and the report of One-Shot Tune."""
    folder = server.base / "models" / "tune_a_video" / "clips"
    before = set(folder.glob("*")) if folder.exists() else set()
    outputs = server.run(tuned_only(prompt)).history["outputs"]
    (file,) = set(folder.glob("*")) - before
    return load_file(file), read_metadata(file, FORMATS["tuned"]), outputs[prompts.TUNE]["text"][0]


def stored(server: Server) -> dict[str, Path]:
    """The files of finished tunings by key."""
    store = Store(server.base / "models" / "tune_a_video_store")
    return {entry.key: entry.path for entry in store.entries() if entry.kind == "tuned"}


@pytest.mark.parametrize("objective", ["published", "debiased"])
def test_the_node_tunes_on_two_clips_as_the_library_does(server: Server, objective: str) -> None:
    frames, others = (read_video(BUNDLED_CLIPS[name], **CUT).frames for name in ("cartwheel", "cartwheel-2"))
    editor = ClipEditor(load_model(), frames, prompts.SOURCE, more_clips=[(others, SECOND)])
    untuned = {name: p.detach().clone() for name, p in trainable_parameters(editor.video_unet).items()}
    config = TuningConfig(steps=4, learning_rate=3e-4, seed=1, loss=objective, clips_in_turn=True)
    losses = [step.loss for step in editor.tune(config)]

    before = stored(server)
    settings = dict(steps=4, objective=objective, keep=True)
    weights, notes, report = weights_of(server, clips_prompt(tune=settings))
    (path,) = set(stored(server).values()) - set(before.values())
    made = [loss for loss, _ in json.loads(read_metadata(path, FORMATS["tuned"])["steps"])]
    assert made == pytest.approx(losses, rel=1e-5)
    ours = {name: p.detach() - untuned[name] for name, p in trainable_parameters(editor.video_unet).items()}
    assert weights.keys() == ours.keys()
    error = sum(float((weights[name] - untuned[name] - ours[name]).square().sum()) for name in ours)
    assert error < 1e-5 * sum(float(change.square().sum()) for change in ours.values())

    noted = json.loads(notes["tuning"])
    assert (noted["loss"], noted["clips_in_turn"]) == (objective, True)
    assert "2 clips" in report and ("objective debiased" in report) == (objective == "debiased")
    log = server.log_path.read_text(errors="replace")
    assert "tuning on 2 clips of 4 frames of 64 x 64 pixels takes about" in log, "the plan of memory"
    server.free()
    before = stored(server)
    assert "loaded from the store" in weights_of(server, clips_prompt(tune=settings))[2]
    alone = weights_of(server, edit_prompt(tune=settings))[2]
    assert len(stored(server)) == len(before) + 1 and "clips" not in alone, "one clip has a key of its own"


def test_a_chain_holds_all_clips_and_either_may_be_edited(server: Server) -> None:
    prompt = clips_prompt(tune=dict(steps=3))
    again = prompt["another"]["inputs"]
    prompt["third"] = node("TAVAnotherClip", clips=["another", 0], **again | dict(latents=[prompts.ENCODE, 0]))
    prompt[prompts.TUNE]["inputs"]["more_clips"] = ["third", 0]
    prompt[prompts.INVERT]["inputs"]["latents"] = ["second latents", 0]
    texts = {name: shown["text"][0] for name, shown in server.run(prompt).history["outputs"].items() if "text" in shown}
    assert "3 clips" in texts[prompts.TUNE]
    assert not [text for text in texts.values() if "Warning" in text], "it was tuned on this clip"
    prompt["other"] = node("TAVLoadVideo", file="bundled: cartwheel", **CUT | dict(start=1.0))
    prompt["other latents"] = node("VAEEncode", pixels=["other", 0], vae=[prompts.MODEL, 2])
    prompt[prompts.INVERT]["inputs"]["latents"] = ["other latents", 0]
    assert "tuned on another clip" in server.run(prompt).history["outputs"][prompts.INVERT]["text"][0]


def test_stopped_tuning_of_two_clips_resumes_to_the_bit(server: Server) -> None:
    settings = dict(steps=30, objective="debiased", seed=23)
    whole, _, _ = weights_of(server, clips_prompt(tune=settings))
    server.free()
    prompt = clips_prompt(tune=settings | dict(keep=True))
    events = Events(server, "clips")
    prompt_id = server.submit(prompt, client_id="clips")
    events.until_step(prompts.TUNE, 3)
    server.post("/interrupt", {})
    assert server.wait(prompt_id).message("execution_interrupted") is not None
    events.close()
    resumed, _, report = weights_of(server, clips_prompt(tune=settings | dict(keep=True)))
    assert int(report.split()[0]) < 30, "the updates that were left"
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())


def test_unknown_rates_warn(server: Server) -> None:
    def report(prompt: dict[str, Any]) -> str:
        server.free()
        return server.run(prompt).history["outputs"][prompts.TUNE]["text"][0]

    prompt = clips_prompt()
    assert "Warning" not in report(prompt)
    del prompt["another"]["inputs"]["fps"]
    assert "connect fps of each Load Clip" in report(prompt)


def refused(name: str) -> dict[str, Any]:
    if name == "size":
        return clips_prompt(dict(width=32))
    if name == "frames":
        return clips_prompt(dict(num_frames=3))
    if name == "rate":
        return clips_prompt(dict(stride=1))
    if name == "empty caption":
        return clips_prompt(text=" ")
    if name == "min_snr_gamma":
        return clips_prompt(tune=dict(objective="debiased", min_snr_gamma=5.0))
    prompt = clips_prompt()
    if name == "no caption":
        del prompt["another"]["inputs"]["caption"]
    if name == "two captions":
        both = dict(conditioning_1=[prompts.CAPTION, 0], conditioning_2=["second caption", 0])
        prompt["both"] = node("ConditioningCombine", **both)
        prompt["another"]["inputs"]["caption"] = ["both", 0]
    if name == "control":
        prompt["control"] = node("TAVLoadDemoControl", hint="depth")
        prompt["under"] = node(
            "ControlNetApplyAdvanced",
            **dict(positive=[prompts.CAPTION, 0], negative=[prompts.EMPTY, 0], control_net=["control", 0]),
            **dict(image=["control", 1], strength=1.0, start_percent=0.0, end_percent=1.0),
        )
        prompt[prompts.TUNE]["inputs"]["caption"] = ["under", 0]
    return prompt


@pytest.mark.parametrize(
    ("name", "where", "words"),
    [
        ("size", prompts.TUNE, "Clip 2 has 4 frames of 4 x 8 latent pixels and the first one 4 frames of 8 x 8"),
        ("frames", prompts.TUNE, "Clip 2 has 3 frames .* take as many frames of the same size from each clip"),
        ("rate", prompts.TUNE, "Clip 2 has 8 frames per second and the first one 4: set force_rate"),
        ("empty caption", "another", "caption is empty: write what this clip shows in CLIP Text Encode"),
        ("no caption", "another", "Required input is missing.*caption"),
        ("two captions", prompts.TUNE, "caption of clip 2 holds 2 entries"),
        ("min_snr_gamma", prompts.TUNE, "switch it off, or set objective to published"),
        ("control", prompts.TUNE, "A control holds one clip, and several are tuned on: tune without controls"),
    ],
)
def test_clips_that_do_not_fit_are_one_sentence_on_the_node(server: Server, name: str, where: str, words: str) -> None:
    node_id, message = server.error_of(refused(name))
    assert node_id == where and re.search(words, message), message
    assert "\n" not in message.strip()
