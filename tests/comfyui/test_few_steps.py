"""The sampler of Sample Edit and DDIM Invert: few steps, as the library takes them."""

import io
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest

from tav_core import (
    BUNDLED_CLIPS,
    ClipEditor,
    InversionConfig,
    NoiseSchedule,
    SamplingConfig,
    TuningConfig,
    lcm_sample,
    load_model,
    read_video,
)
from tests.comfyui import prompts
from tests.comfyui.client import Server
from tests.comfyui.prompts import edit_prompt


def frames_of(server: Server, prompt: dict[str, Any]) -> np.ndarray:
    """The edit without loss, (f, h, w, 3) in [0, 1]."""
    prompt[prompts.SAVE]["inputs"]["format"] = "mkv"
    (file,) = server.run(prompt).history["outputs"][prompts.SAVE]["files"]
    with av.open(io.BytesIO(server.view(file))) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]) / 255


@pytest.mark.parametrize(
    ("sampler", "start", "spacing"),
    [("lcm", "noise", "lcm"), ("ddim_lcm", "inversion", "lcm"), ("ddim_trailing", "source branch", "trailing")],
)
def test_few_steps_are_those_of_the_library(server: Server, sampler: str, start: str, spacing: str) -> None:
    config = SamplingConfig(4, 1.5, seed=0 if start == "inversion" else 5)
    model = load_model()
    schedule = replace(NoiseSchedule.from_scheduler(model.scheduler), timestep_spacing=spacing)
    frames = read_video(BUNDLED_CLIPS["cartwheel"], num_frames=4, width=64, height=64, stride=2).frames
    editor = ClipEditor(model, frames, prompts.SOURCE, scheduler=schedule)
    for _ in editor.tune(TuningConfig(3, 3e-4, seed=1)):
        pass
    for _ in editor.invert(InversionConfig(4)):
        pass
    own = dict(start_from=start.replace(" ", "_"), sampler=lcm_sample if sampler == "lcm" else None)
    *_, last = editor.edit(prompts.EDIT, config, **own)
    expected = editor.decode(last.latents).clamp(0, 1).numpy()

    beside = dict(way="custom", start_from=start, guidance=1.5, seed=5, sampler=sampler)
    if start == "source branch":
        beside |= dict(caption=[prompts.CAPTION, 0], clip_latents=[prompts.ENCODE, 0])
    given = dict(invert=dict(sampler=sampler), sample=beside)
    made = frames_of(server, edit_prompt(**given))
    assert np.abs(made - expected).mean() < 1 / 255
    plain = frames_of(server, edit_prompt(invert=dict(sampler="ddim"), sample=beside | dict(sampler="ddim")))
    assert np.abs(plain - expected).mean() > 1.5 / 255, "other steps than by default"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(invert=dict(sampler="lcm")), "Set sampler of DDIM Invert and of Sample Edit to the same"),
        (
            dict(sample=dict(sampler="lcm", way="content", clip_latents=[prompts.ENCODE, 0])),
            "set sampler to ddim_lcm, at the same timesteps",
        ),
        (
            dict(sample=dict(sampler="lcm", way="custom", start_from="noise", steps=51)),
            "steps with lcm spacing must be a whole number from 1 to 50, not 51",
        ),
    ],
)
def test_samplers_that_do_not_fit_are_refused(server: Server, changes: dict[str, Any], words: str) -> None:
    where, message = server.error_of(edit_prompt(**changes))
    assert where == prompts.SAMPLE and words in message


def test_too_many_steps_to_invert_are_refused(server: Server) -> None:
    where, message = server.error_of(edit_prompt(invert=dict(sampler="lcm", steps=51)))
    assert where == prompts.INVERT and "steps with lcm spacing must be a whole number from 1 to 50" in message
