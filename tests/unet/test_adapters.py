"""The trained weights and their strength: scale, load, reset, and the errors they raise."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tav_core import TuningConfig, VideoUNet, inflate, trainable_parameters, tune
from tests.conftest import EPSILON, MakeUNet, draw

LATENTS, TEXT = draw(1, 4, 2, 4, 4), draw(1, 5, 12, seed=1)


@pytest.fixture
def video_unet(make_unet: MakeUNet) -> VideoUNet:
    return inflate(make_unet())


def tuning(video_unet: VideoUNet, seed: int) -> dict[str, Tensor]:
    """Made-up tuned weights."""
    shapes = {name: weight.shape for name, weight in trainable_parameters(video_unet).items()}
    return {name: draw(*shape, seed=seed + index) for index, (name, shape) in enumerate(shapes.items())}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_parameters_are_the_published_list(video_unet: VideoUNet) -> None:
    parameters = video_unet.adapter.parameters()
    assert all(parameter is trainable_parameters(video_unet)[name] for name, parameter in parameters.items())
    assert {name.split(".", 6)[-1].split(".")[0] for name in parameters} >= {"attn1", "attn2", "attn_temp"}


def test_loaded_weights_are_exact_at_scale_1(video_unet: VideoUNet) -> None:
    tuned = tuning(video_unet, seed=1)
    video_unet.adapter.load(tuned)
    assert video_unet.adapter.scale == 1 and same(video_unet.adapter.state_dict(), tuned)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5, -1.0])
def test_scale_is_a_line_from_the_image_model_to_the_tuning(video_unet: VideoUNet, scale: float) -> None:
    adapter, tuned = video_unet.adapter, tuning(video_unet, seed=1)
    adapter.load(tuned, scale)
    assert adapter.scale == scale
    for name, weight in adapter.state_dict().items():
        if name in adapter.base:
            expected = adapter.base[name] + scale * (tuned[name] - adapter.base[name])
        else:
            expected = scale * tuned[name] if ".to_out." in name else tuned[name]
        torch.testing.assert_close(weight, expected)


def test_scale_is_of_the_tuning_that_was_loaded_last(video_unet: VideoUNet) -> None:
    adapter, first, second = video_unet.adapter, tuning(video_unet, seed=1), tuning(video_unet, seed=1000)
    adapter.load(first)
    adapter.scale = 0.5
    adapter.load(second)
    adapter.scale = 1.0
    assert same(adapter.state_dict(), second)
    adapter.scale = 0.5
    adapter.load(second, 0.25)
    adapter.scale = 1.0
    assert same(adapter.state_dict(), second)


def test_scale_is_of_the_tuning_that_was_trained_last(video_unet: VideoUNet) -> None:
    adapter = video_unet.adapter
    adapter.load(tuning(video_unet, seed=1), 0.5)
    for _ in tune(video_unet, LATENTS, TEXT, EPSILON, TuningConfig(steps=1)):
        pass
    assert adapter.scale == 1
    trained = adapter.state_dict()
    adapter.scale = 0.0
    adapter.scale = 1.0
    assert same(adapter.state_dict(), trained)


def test_each_scale_is_applied_to_the_tuning_anew(video_unet: VideoUNet) -> None:
    adapter, tuned = video_unet.adapter, tuning(video_unet, seed=1)
    adapter.load(tuned, 0.3)
    expected = adapter.state_dict()
    adapter.load(tuned)
    for scale in (0.5, 0.0, 0.3):
        adapter.scale = scale
    assert same(adapter.state_dict(), expected)
    adapter.scale = 1.0
    assert same(adapter.state_dict(), tuned)


def test_reset_restores_the_inflated_weights_at_scale_1(video_unet: VideoUNet) -> None:
    adapter, inflated = video_unet.adapter, video_unet.adapter.state_dict()
    adapter.load(tuning(video_unet, seed=1), 0.5)
    adapter.reset()
    assert adapter.scale == 1 and same(adapter.state_dict(), inflated)
    adapter.scale = 0.0
    adapter.scale = 1.0
    assert same(adapter.state_dict(), inflated), "the tuning before the reset is not scaled"


def test_freeze_scale_makes_the_present_weights_the_tuning(video_unet: VideoUNet) -> None:
    adapter = video_unet.adapter
    adapter.load(tuning(video_unet, seed=1), 0.5)
    half = adapter.state_dict()
    adapter.freeze_scale()
    assert adapter.scale == 1
    adapter.scale = 0.0
    adapter.scale = 1.0
    assert same(adapter.state_dict(), half)


def test_state_dict_is_a_copy(video_unet: VideoUNet) -> None:
    before = video_unet.adapter.state_dict()
    video_unet.adapter.load(tuning(video_unet, seed=1))
    assert not same(video_unet.adapter.state_dict(), before)


def lacking(tuned: dict[str, Tensor]) -> None:
    del tuned[next(iter(tuned))]


def unknown(tuned: dict[str, Tensor]) -> None:
    tuned["another"] = torch.zeros(1)


def misshapen(tuned: dict[str, Tensor]) -> None:
    name = next(iter(tuned))
    tuned[name] = tuned[name][:1]


def non_finite(tuned: dict[str, Tensor]) -> None:
    tuned[next(iter(tuned))][0] = torch.inf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lacking, "1 tensors are missing"),
        (unknown, "1 unknown, such as another"),
        (misshapen, "has shape"),
        (non_finite, "not finite"),
    ],
)
def test_wrong_tensors_raise_and_change_nothing(video_unet: VideoUNet, damage: Any, message: str) -> None:
    adapter, tuned = video_unet.adapter, tuning(video_unet, seed=1)
    adapter.load(tuning(video_unet, seed=9), 0.5)
    before = adapter.state_dict()
    damage(tuned)
    with pytest.raises(ValueError, match=message):
        adapter.load(tuned)
    assert adapter.scale == 0.5 and same(adapter.state_dict(), before)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 101, -101])
def test_invalid_scales_raise_and_change_nothing(video_unet: VideoUNet, scale: float) -> None:
    adapter, before = video_unet.adapter, video_unet.adapter.state_dict()
    with pytest.raises(ValueError, match="strength must be a number in"):
        adapter.scale = scale
    with pytest.raises(ValueError, match="strength must be a number in"):
        adapter.load(tuning(video_unet, seed=1), scale)
    assert adapter.scale == 1 and same(adapter.state_dict(), before)
