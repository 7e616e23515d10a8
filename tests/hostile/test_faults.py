"""Out of memory at any point of the method, and strange numbers: the next call works as before."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tav_core import InversionConfig, SamplingConfig, TuningConfig, VideoUNet, inflate, invert, load_model, sample, tune
from tav_core.models.codec import decode_latents, encode_frames, encode_prompts
from tests.conftest import EPSILON, MakeUNet, draw

from .clear import clear_error

LATENTS, TEXT = draw(1, 4, 3, 6, 6), draw(1, 5, 12, seed=1)
CALLS: dict[str, Callable[[VideoUNet], Iterator[Any]]] = {
    "tune": lambda unet: tune(unet, LATENTS, TEXT, EPSILON, TuningConfig(steps=2)),
    "invert": lambda unet: invert(unet, LATENTS, TEXT, EPSILON, InversionConfig(2)),
    "sample": lambda unet: sample(unet, LATENTS, TEXT, TEXT, EPSILON, SamplingConfig(2)),
}
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**400, 1e308, -1, 0, True, None, "", "3", [], 2**63])
)


def run_out(module: torch.nn.Module, call: int) -> Any:
    """Let the module run out of memory when it is called for the so-manieth time."""
    calls = iter(range(1, 10**6))

    def hook(*_: object) -> None:
        if next(calls) == call:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    return module.register_forward_pre_hook(hook)


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("name", CALLS)
def test_the_model_works_after_running_out_of_memory(make_unet: MakeUNet, name: str, call: int) -> None:
    video_unet = inflate(make_unet())
    flags = {key: parameter.requires_grad for key, parameter in video_unet.named_parameters()}
    modes = [module.training for module in video_unet.modules()]
    handle = run_out(video_unet.unet.mid_block, call)
    steps = CALLS[name](video_unet)
    with pytest.raises(torch.OutOfMemoryError, match="20.00 GiB"):
        list(steps)
    handle.remove()
    with pytest.raises(StopIteration):
        next(steps)
    assert {key: parameter.requires_grad for key, parameter in video_unet.named_parameters()} == flags
    assert [module.training for module in video_unet.modules()] == modes
    assert all(parameter.grad is None for parameter in video_unet.parameters())
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    video_unet.reset()
    again, fresh = list(CALLS[name](video_unet)), list(CALLS[name](inflate(make_unet())))
    if name == "tune":
        assert again == fresh
    else:
        assert torch.equal(again[-1].latents, fresh[-1].latents)


def test_out_of_memory_while_encoding_and_decoding() -> None:
    model = load_model()
    frames = torch.rand(2, 32, 32, 3)
    latents = encode_frames(model, frames)
    for part, call in ((model.vae.decoder, decode_latents), (model.vae.encoder, encode_frames)):
        given = latents if call is decode_latents else frames
        handle = run_out(part, 2)
        with pytest.raises(torch.OutOfMemoryError):
            call(model, given)
        handle.remove()
        assert call(model, given).isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_latents_raise_and_change_no_weights(make_unet: MakeUNet, value: float) -> None:
    video_unet = inflate(make_unet())
    before = {key: tensor.clone() for key, tensor in video_unet.state_dict().items()}
    with pytest.raises(ValueError, match="latents are not finite"):
        next(tune(video_unet, torch.full_like(LATENTS, value), TEXT, EPSILON))
    assert all(torch.equal(tensor, before[key]) for key, tensor in video_unet.state_dict().items())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([TuningConfig, InversionConfig, SamplingConfig]),
    values=st.lists(NUMBERS, min_size=1, max_size=6),
)
def test_configurations_of_any_numbers(kind: Any, values: list[Any]) -> None:
    names = [name for name in kind.__dataclass_fields__ if name not in ("betas", "compute_dtype")]
    with clear_error():
        kind(**dict(zip(names, values, strict=False)))


@pytest.mark.parametrize(
    "prompt", ["", " ", "word " * 2000, "שלום עולם", "\u202eabc", "👩‍👩‍👧‍👦" * 500, "\0", "\ud800", "é\n\t"]
)
def test_prompts(prompt: str) -> None:
    with clear_error():
        assert encode_prompts(load_model(), [prompt]).isfinite().all()
