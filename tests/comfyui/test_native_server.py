"""The tuned clip sampled by ComfyUI's own nodes, over its HTTP interface, beside our own nodes."""

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tav_core import NoiseSchedule, load_model
from tests.comfyui import prompts
from tests.comfyui.client import Events, Server
from tests.comfyui.prompts import edit_prompt, node

STEPS, GUIDANCE = 5, 2.0


def native_edit(sampler: str = "euler", model: tuple[str, int] = ("motion", 0)) -> dict[str, Any]:
    """The edit of `edit_prompt`, tuned by our node, inverted and sampled by the host's alone."""
    sigma = NoiseSchedule.from_scheduler(load_model().scheduler).alpha(0) ** -1 - 1
    least = float(sigma**0.5)
    custom = dict(model=[*model], add_noise=False, noise_seed=0)
    return edit_prompt(steps=STEPS, sample=dict(guidance=GUIDANCE)) | {
        "motion": node("TAVApplyMotion", model=[prompts.MODEL, 0], tav_model=[prompts.TUNE, 0], strength=1.0),
        "levels": node("BasicScheduler", model=["motion", 0], scheduler="ddim_uniform", steps=STEPS, denoise=1.0),
        "rising": node("FlipSigmas", sigmas=["levels", 0]),
        "from_least": node("SetFirstSigma", sigmas=["rising", 0], sigma=least),
        "falling": node("FlipSigmas", sigmas=["from_least", 0]),
        "inverse": node("TAVInversionSampler"),
        "kind": node("KSamplerSelect", sampler_name=sampler),
        "inverted": node(
            "SamplerCustom",
            **custom | dict(cfg=1.0, positive=[prompts.EMPTY, 0], negative=[prompts.EMPTY, 0], sampler=["inverse", 0]),
            **dict(sigmas=["rising", 0], latent_image=[prompts.ENCODE, 0]),
        ),
        "sampled": node(
            "SamplerCustom",
            **custom | dict(cfg=GUIDANCE, positive=[prompts.PROMPT, 0], negative=[prompts.EMPTY, 0]),
            **dict(sampler=["kind", 0], sigmas=["falling", 0], latent_image=["inverted", 0]),
        ),
        # The host's latents at a noise level are sqrt(1 + sigma^2) times ours.
        "scaled": node("LatentMultiply", samples=["sampled", 0], multiplier=(1 + least**2) ** -0.5),
        "theirs": node("SaveLatent", samples=["scaled", 0], filename_prefix="native/theirs"),
        "ours": node("SaveLatent", samples=[prompts.SAMPLE, 0], filename_prefix="native/ours"),
    }


def latents(server: Server, outcome: Any, name: str) -> np.ndarray:
    (file,) = outcome.history["outputs"][name]["latents"]
    return load_file(server.base / "output" / file["subfolder"] / file["filename"])["latent_tensor"].astype(np.float64)


def decibels(got: np.ndarray, expected: np.ndarray) -> float:
    """Signal-to-noise ratio."""
    return 10 * np.log10(np.square(expected).sum() / np.square(got - expected).sum())


@pytest.mark.parametrize("windowed", [False, True], ids=["alone", "through windows that hold the clip"])
def test_edit_by_the_hosts_nodes_equals_ours(server: Server, windowed: bool) -> None:
    prompt = native_edit(model=("windows", 0) if windowed else ("motion", 0))
    prompt["windows"] = node("TAVContextWindows", model=["motion", 0], context_length=16, overlap=4)
    outcome = server.run(prompt)
    ours, theirs = latents(server, outcome, "ours"), latents(server, outcome, "theirs")
    assert decibels(theirs, ours) >= 100


def test_image_model_is_the_same_before_and_after(server: Server) -> None:
    """And Apply Motion on a MODEL does not change that MODEL."""
    custom = dict(model=[prompts.MODEL, 0], seed=3, steps=2, cfg=2.0, sampler_name="dpmpp_2m", scheduler="karras")
    custom |= dict(positive=[prompts.PROMPT, 0], negative=[prompts.EMPTY, 0], latent_image=[prompts.ENCODE, 0])
    text = {name: edit_prompt()[name] for name in (prompts.MODEL, prompts.CLIP, prompts.PROMPT, prompts.EMPTY)}
    alone = text | {
        prompts.ENCODE: edit_prompt()[prompts.ENCODE],
        "plain": node("KSampler", **custom, denoise=1.0),
        "plain_save": node("SaveLatent", samples=["plain", 0], filename_prefix="native/plain"),
    }
    server.free()
    before = latents(server, server.run(alone), "plain_save")
    server.free()
    together = native_edit() | {name: alone[name] for name in ("plain", "plain_save")}
    between = latents(server, server.run(together), "plain_save")
    server.free()
    after = latents(server, server.run(alone), "plain_save")
    assert np.array_equal(before, between) and np.array_equal(before, after)


def test_ksampler_samples_the_motion_with_fresh_noise_and_a_lora(server: Server) -> None:
    """An exported tuning is loaded as a LoRA; LoRA and motion both act."""
    exported = edit_prompt() | {
        "export": node("TAVExportTuned", model=[prompts.TUNE, 0], error=0.3, filename_prefix="look"),
    }
    exported["export"]["inputs"]["kind"] = "lora"
    report = server.run(exported).history["outputs"]["export"]["text"][0]
    assert "look_00001_.safetensors" in report and "% lost" in report
    lora = dict(model=[prompts.MODEL, 0], lora_name="look_00001_.safetensors", strength_model=1.0)
    custom = dict(seed=3, steps=2, cfg=2.0, sampler_name="euler", scheduler="normal", denoise=1.0)
    custom |= dict(positive=[prompts.PROMPT, 0], negative=[prompts.EMPTY, 0], latent_image=[prompts.ENCODE, 0])
    prompt = native_edit() | {"lora": node("LoraLoaderModelOnly", **lora)}
    prompt["styled"] = node("TAVApplyMotion", model=["lora", 0], tav_model=[prompts.TUNE, 0], strength=1.0)
    for name in (prompts.MODEL, "lora", "motion", "styled"):
        prompt[f"{name} sampled"] = node("KSampler", model=[name, 0], **custom)
        prompt[f"{name} saved"] = node("SaveLatent", samples=[f"{name} sampled", 0], filename_prefix=f"native/{name}")
    outcome = server.run(prompt)
    kinds = [latents(server, outcome, f"{name} saved") for name in (prompts.MODEL, "lora", "motion", "styled")]
    for index, first in enumerate(kinds):
        assert all(decibels(other, first) < 80 for other in kinds[index + 1 :])


def test_stop_ends_a_native_step_and_leaves_nothing(server: Server) -> None:
    prompt = native_edit()
    first = latents(server, server.run(prompt), "theirs")
    longer = native_edit()
    longer["levels"]["inputs"]["steps"] = 500
    events = Events(server, "native")
    prompt_id = server.submit(longer, client_id="native")
    events.until_step("inverted", 2)
    server.post("/interrupt", {})
    stopped = server.wait(prompt_id).message("execution_interrupted")
    assert stopped is not None and stopped["node_id"] == "inverted"
    events.close()
    server.free()
    assert np.array_equal(latents(server, server.run(prompt), "theirs"), first)
