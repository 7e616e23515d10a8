"""Frozen convolutions against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from tav_core.unet.modules import FrozenConv2d
from tests.conftest import draw


def convolution(**options: int) -> nn.Conv2d:
    return nn.Conv2d(6, 8, **options).requires_grad_(False)


def gradient(conv: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    out = conv(images)
    out.float().square().sum().backward()
    return out.detach(), images.grad


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    "options", [{"kernel_size": 3, "padding": 1}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 1}]
)
def test_output_and_gradient_equal_torchs(options: dict[str, int], autocast: bool) -> None:
    conv, images = convolution(**options), draw(2, 6, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        got, expected = gradient(FrozenConv2d.adopt(conv), images), gradient(conv, images)
    torch.testing.assert_close(got, expected)


def test_stores_no_input_while_frozen_and_trains_otherwise() -> None:
    frozen, images, kept = FrozenConv2d.adopt(convolution(kernel_size=3)), draw(2, 6, 9, 8).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (kept.append(tensor), tensor)[1], lambda tensor: tensor
    ):
        frozen(images)
        assert kept == []
        frozen.requires_grad_(True)
        frozen(images).sum().backward()
    assert kept and frozen.weight.grad is not None


@pytest.mark.parametrize("trained", ["weight", "bias"])
def test_each_trained_part_gets_its_gradient(trained: str) -> None:
    frozen, images = FrozenConv2d.adopt(convolution(kernel_size=3)), draw(2, 6, 9, 8)
    getattr(frozen, trained).requires_grad_(True)
    frozen(images).sum().backward()
    assert {name for name, parameter in frozen.named_parameters() if parameter.grad is not None} == {trained}
