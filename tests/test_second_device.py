"""The whole method on a device that rejects tensors of the CPU, against the same on the CPU.

Both run in a process of their own, once, since the device stays in torch for good.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import pytest
import torch
from torch import Tensor

import tav_core as tav
from tav_core.models.base import ASSETS
from tav_core.tuning.tune import LOSS_SCALING_DEVICES
from tests.conftest import relative_error
from tests.second_device import AVAILABLE, NAME, install

pytestmark = pytest.mark.slow

SOURCE, EDIT = "a red person jumps on the beach, flat colours", "a blue person jumps on the beach, flat colours"
TUNING = tav.TuningConfig(
    steps=2, learning_rate=3e-4, timestep_range=0.8, gradient_accumulation_steps=2, gradient_checkpointing="selective"
)
SAMPLING = dict(num_inference_steps=3, guidance_scale=2.5, denoise=0.75)
EDITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "published": ({}, {}),
    "rescaled guidance": ({"guidance_rescale": 0.5}, {}),
    "source branch": ({"high_noise_guidance_scale": 4.0}, {"start_from": "source_branch"}),
    "fresh noise": ({"denoise": 1.0}, {"start_from": "noise"}),
    "under a mask": ({}, {"start_from": "source_branch", "mask": torch.ones(1, 64, 64)}),
    "from given noise": ({}, {"noise": torch.randn(1, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0))}),
}


def stages(device: str, dtype: torch.dtype, edits: tuple[str, ...]) -> dict[str, Tensor]:
    """The results of each stage, on the CPU."""
    clip = tav.read_video(ASSETS / "demo-clip.mp4", num_frames=3, width=64, height=64)
    with tempfile.TemporaryDirectory() as folder:
        model = tav.load_model(device=device, dtype=dtype)
        editor = tav.ClipEditor(model, clip.frames, SOURCE, store=tav.Store(folder))
        made = {"losses": torch.tensor([step.loss for step in editor.tune(TUNING)])}
        assert {weight.device.type for weight in editor.video_unet.parameters()} == {torch.device(device).type}
        made["tuned weights"] = trained(editor)
        steps = list(editor.invert(tav.InversionConfig(num_inference_steps=3, refinements=2)))
        made["inversion"] = steps[-1].latents.cpu()
        for name in edits:
            settings, options = EDITS[name]
            *_, last = editor.edit(EDIT, tav.SamplingConfig(**SAMPLING | settings), **options)
            made[name] = last.latents.cpu()
        made["deflickered"] = torch.stack(list(editor.deflicker(editor.decode(last.latents))))
        trials = editor.try_strengths(EDIT, tav.SamplingConfig(**SAMPLING), strengths=[0.5], start_from="source_branch")
        made["strengths"] = torch.tensor([[trial.prompt_score, trial.source_score] for trial in trials])
        tav.save_tuned(editor.video_unet, f"{folder}/tuned.safetensors")
        tav.load_tuned(editor.video_unet, f"{folder}/tuned.safetensors", strength=0.5)
        made["loaded weights"] = trained(editor)
        made["continued"] = continued(model, clip.frames, folder)
    return {name: result.float() for name, result in made.items()}


def trained(editor: tav.ClipEditor) -> Tensor:
    weights = tav.trainable_parameters(editor.video_unet).values()
    return torch.cat([weight.detach().cpu().flatten() for weight in weights])


def continued(model: tav.BaseModel, frames: Tensor, folder: str) -> Tensor:
    """The weights of a tuning that was stopped after its first step, stored, and resumed."""
    other = tav.load_model(device=str(model.unet.device), dtype=model.unet.dtype)
    editor = tav.ClipEditor(other, frames, SOURCE, store=tav.Store(folder))
    config = replace(TUNING, seed=5, gradient_checkpointing=True)
    run = editor.tune(config)
    next(run)
    run.close()
    assert [step.step for step in editor.tune(config)] == [2]
    return trained(editor)


def rejections(device: torch.device) -> list[str]:
    """The errors of operations that fail on a GPU too."""
    distant = torch.ones(2).to(device)
    attempts: list[Callable[[], object]] = [lambda: distant + torch.ones(2), lambda: distant.numpy()]
    raised = []
    for attempt in attempts:
        try:
            attempt()
        except (RuntimeError, TypeError) as error:
            raised.append(type(error).__name__)
    assert float((distant + torch.tensor(1.0)).sum()) == 4  # a number on the CPU is allowed, as by a GPU
    return raised


def everything() -> tuple[list[str], dict[str, dict[str, Tensor]]]:
    """The errors of `rejections`, and the results of the CPU in float32 and of the device in both types."""
    torch.set_num_threads(1)
    device = install()  # before the first backward pass, where autograd counts the devices
    LOSS_SCALING_DEVICES.append(NAME)
    return rejections(device), {
        "expected": stages("cpu", torch.float32, tuple(EDITS)),
        "float32": stages(NAME, torch.float32, tuple(EDITS)),
        "float16": stages(NAME, torch.float16, ("published",)),
    }


@pytest.fixture(scope="module")
def run() -> tuple[list[str], dict[str, dict[str, Tensor]]]:
    if not AVAILABLE:
        pytest.skip("this torch has no Python backends; the device of these tests is one")
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(everything)


def test_the_device_rejects_tensors_of_the_cpu(run: Any) -> None:
    assert run[0] == ["RuntimeError", "TypeError"]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float16", 3e-2)])
def test_a_second_device_computes_what_the_cpu_computes(run: Any, dtype: str, tolerance: float) -> None:
    expected, got = run[1]["expected"], run[1][dtype]
    assert {"losses", "tuned weights", "inversion", "published", "strengths", "continued"} <= {*got}
    errors = {name: relative_error(got[name], expected[name]) for name in got if name != "deflickered"}
    assert max(errors.values()) < tolerance, errors


def test_deflickering_a_second_devices_frames_gives_the_cpus(run: Any) -> None:
    expected, got = run[1]["expected"]["deflickered"], run[1]["float32"]["deflickered"]
    assert relative_error(got, expected) < 1e-4
