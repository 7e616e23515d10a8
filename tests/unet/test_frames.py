"""Frames in and out of the batch, the norm over a clip, and the checks of a clip's shape."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tav_core.unet.frames import (
    FrameContext,
    check_clip,
    check_embeddings,
    fold_frames,
    unfold_frames,
    without_autocast,
)
from tav_core.unet.modules import ClipGroupNorm
from tests.conftest import draw


def test_folding_keeps_the_frames_of_a_clip_together() -> None:
    clip = draw(2, 4, 3, 5, 6)
    images = fold_frames(clip)
    assert images.shape == (6, 4, 5, 6)
    assert torch.equal(images[4], clip[1, :, 1])
    assert torch.equal(unfold_frames(images, 3), clip)


def random_norm() -> nn.GroupNorm:
    norm = nn.GroupNorm(2, 8, eps=1e-3)
    norm.weight.data, norm.bias.data = draw(8, seed=1), draw(8, seed=2)
    return norm


def test_clip_group_norm_pools_statistics_over_frames() -> None:
    norm, clip = random_norm(), draw(2, 8, 3, 4, 5)
    got = ClipGroupNorm(norm, FrameContext(3))(fold_frames(clip))
    expected = F.group_norm(clip, 2, norm.weight, norm.bias, 1e-3)
    torch.testing.assert_close(unfold_frames(got, 3), expected)


def test_clip_group_norm_of_one_frame_is_the_image_norm_with_its_parameters() -> None:
    norm, image = random_norm(), draw(2, 8, 4, 5)
    replaced = ClipGroupNorm(norm, FrameContext(1))
    torch.testing.assert_close(replaced(image), norm(image))
    assert replaced.weight is norm.weight
    assert list(replaced.state_dict()) == list(norm.state_dict())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 8, 8), "5 dimensions"),
        ((1, 4, 0, 8, 8), "at least one frame"),
        ((0, 4, 3, 8, 8), "at least one frame"),
        ((1, 3, 4, 8, 8), "4 channels, got 3"),
    ],
)
def test_wrong_clips_raise(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_clip(torch.zeros(shape), channels=4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((77, 12), "3|dimensions"), ((3, 77, 12), "batch 3 and the latents 1"), ((1, 77, 16), "width 12, got 16")],
)
def test_wrong_embeddings_raise(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_embeddings(torch.zeros(shape), batch=1, width=12)


def test_without_autocast_casts_nothing() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), without_autocast(torch.device("cpu")):
        assert (draw(2, 2) @ draw(2, 2)).dtype == torch.float32
    for device in ("meta", "privateuseone", "mps"):
        with without_autocast(torch.device(device)):
            assert (draw(2, 2) @ draw(2, 2)).dtype == torch.float32
