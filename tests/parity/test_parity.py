"""The same numbers as the published implementation, to what float32 carries. How the numbers were made: README.md."""

import json
import zlib
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from tav_core import (
    InversionConfig,
    NoiseSchedule,
    SamplingConfig,
    TuningConfig,
    VideoUNet,
    inflate,
    invert,
    sample,
    trainable_parameters,
    tune,
)
from tav_core.diffusion.ddim import ddim_step
from tav_core.editing.sampling import guided_denoiser
from tests.conftest import relative_error

DATA = Path(__file__).parent / "data"
META = json.loads((DATA / "meta.json").read_text())
SCHEDULER = META["scheduler_config"]
INPUTS = load_file(DATA / "inputs.safetensors")
COND, UNCOND = INPUTS["cond"], INPUTS["uncond"]


def made_up_weight(name: str, shape: torch.Size) -> Tensor:
    """The weight that the exporter gave to the 2-D UNet's tensor `name`."""
    r = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"sd1/unet/{name}".encode())))
    if name.endswith(".bias"):
        return 0.1 * r
    if r.ndim == 1:
        return 1 + 0.2 * r
    gain = 1.25 if ".to_q." in name or ".to_k." in name else 0.25 if ".attn2.to_out." in name else 1.0
    return gain * r / r[0].numel() ** 0.5


def reference_model(state: str = "random") -> VideoUNet:
    """The inflated model under made-up weights: temporal ones "random", or "identity" with a zero output projection."""
    unet = UNet2DConditionModel.from_config(META["unet_config"]).eval()
    unet.load_state_dict({name: made_up_weight(name, tensor.shape) for name, tensor in unet.state_dict().items()})
    video_unet = inflate(unet)
    temporal = load_file(DATA / "state_random.safetensors")
    if state == "identity":
        temporal |= load_file(DATA / "state_identity_overlay.safetensors")
    unexpected = unet.load_state_dict(temporal, strict=False).unexpected_keys
    assert not unexpected
    return video_unet


@pytest.mark.parametrize("case", ["random.F1", "random.F3", "identity.F1", "identity.F3"])
def test_forward(case: str) -> None:
    state, clip = case.split(".")
    with torch.no_grad():
        got = reference_model(state)(INPUTS[f"x.{clip}"], 437, COND)
    assert relative_error(got, load_file(DATA / "forward.safetensors")[case]) < 1e-4


def test_trainable_names_and_count() -> None:
    parameters = trainable_parameters(reference_model())
    assert list(parameters) == META["trainable"]
    assert sum(parameter.numel() for parameter in parameters.values()) == META["trainable_params"]


@pytest.mark.parametrize("checkpointing", [False, "selective", True])
def test_gradients(checkpointing: bool | str) -> None:
    video_unet = reference_model()
    video_unet.context.checkpointing = checkpointing
    schedule = NoiseSchedule.from_scheduler(SCHEDULER)
    noise, step = INPUTS["noise.F3"][0], META["one_step"]
    prediction = video_unet(schedule.add_noise(INPUTS["x0.F3"], noise, step["timestep"]), step["timestep"], COND)
    loss = torch.nn.functional.mse_loss(prediction, noise)
    loss.backward()
    assert loss.item() == pytest.approx(step["loss"], rel=1e-5)
    expected = load_file(DATA / "grad_random_F3.safetensors")
    for name, parameter in trainable_parameters(video_unet).items():
        assert parameter.grad is not None
        assert relative_error(parameter.grad, expected[name]) < 1e-3, name


def test_five_tuning_steps() -> None:
    video_unet = reference_model()
    before = {name: parameter.detach().clone() for name, parameter in trainable_parameters(video_unet).items()}
    timesteps, published = META["train5"]["timesteps"], META["train5"]["losses"]["losses"]
    config = TuningConfig(steps=5)
    steps = tune(video_unet, INPUTS["x0.F3"], COND, SCHEDULER, config, noise=INPUTS["noise.F3"], timesteps=timesteps)
    assert [step.loss for step in steps] == pytest.approx(published, rel=1e-5)
    expected = load_file(DATA / "train5_random_F3.safetensors")
    for name, parameter in trainable_parameters(video_unet).items():
        # Five steps of Adam move a weight by 1.5e-4 at most: compare the movement too, not the weight alone.
        assert relative_error(parameter, expected[name]) < 1e-4, name
        moved, should_move = parameter - before[name], expected[name] - before[name]
        assert (moved - should_move).norm() < 1e-2 * should_move.norm(), name


def test_inversion() -> None:
    expected = load_file(DATA / "ddim_inversion.safetensors")["random.F3"]
    steps = list(invert(reference_model(), expected[0], UNCOND, SCHEDULER, InversionConfig(num_inference_steps=10)))
    assert [step.timestep for step in steps] == META["ddim"]["timesteps"][::-1]
    for step, latents in zip(steps, expected[1:], strict=True):
        assert relative_error(step.latents, latents) < 1e-3, step.timestep


@pytest.mark.parametrize(("case", "scale"), [("random.F3", 7.5), ("random.F3.noguidance", 1.0)])
def test_sampling(case: str, scale: float) -> None:
    noise = load_file(DATA / "ddim_inversion.safetensors")["random.F3"][-1]
    expected = load_file(DATA / "ddim_sample.safetensors")[case]
    config = SamplingConfig(num_inference_steps=10, guidance_scale=scale)
    steps = list(sample(reference_model(), noise, COND, UNCOND, SCHEDULER, config))
    assert [step.timestep for step in steps] == META["ddim"]["timesteps"]
    for step, latents in zip(steps, expected, strict=True):
        assert relative_error(step.latents, latents) < 1e-3, step.timestep


def test_sampling_step_by_step_from_given_latents() -> None:
    """Each guided step alone, from the published latents: rounding has no ten steps to grow over."""
    video_unet, schedule = reference_model(), NoiseSchedule.from_scheduler(SCHEDULER)
    start = load_file(DATA / "ddim_inversion.safetensors")["random.F3"][-1]
    expected = load_file(DATA / "ddim_sample.safetensors")["random.F3"]
    config = SamplingConfig(num_inference_steps=10, guidance_scale=7.5)
    given = [start, *expected[:-1]]
    for timestep, latents, published in zip(META["ddim"]["timesteps"], given, expected, strict=True):
        with torch.no_grad():
            prediction = guided_denoiser(video_unet, COND, UNCOND, SCHEDULER, config)(latents, timestep)
        alpha, alpha_prev = schedule.alpha(timestep), schedule.alpha(timestep - schedule.stride(10))
        got = ddim_step(latents, prediction, alpha, alpha_prev, schedule.prediction_type)
        assert relative_error(got, published) < 1e-4, timestep
