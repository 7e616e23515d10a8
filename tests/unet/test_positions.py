"""Temporal positions: the encoding against its formula, and what the option changes."""

import math
from pathlib import Path

import pytest
import torch

from tav_core import VideoUNet, inflate, load_tuned, save_tuned, trainable_parameters
from tav_core.unet.positions import sinusoidal_positions
from tests.conftest import MakeUNet, draw

LATENTS, TEXT = draw(1, 4, 4, 6, 6), draw(1, 5, 12)


@pytest.mark.parametrize("width", [8, 5])
def test_the_encoding_equals_the_papers(width: int) -> None:
    got = sinusoidal_positions(3, width, like=torch.zeros(1, dtype=torch.float64))
    expected = [
        [
            (math.cos if column % 2 else math.sin)(frame / 10000 ** ((column - column % 2) / width))
            for column in range(width)
        ]
        for frame in range(3)
    ]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))
    assert sinusoidal_positions(3, width, like=torch.zeros(1).bfloat16()).dtype == torch.bfloat16


def with_temporal_attention_only(video_unet: VideoUNet) -> VideoUNet:
    """The temporal attention at work, and no other attention between frames."""
    with torch.no_grad():
        for seed, block in enumerate(video_unet.blocks.values()):
            projection = block.attn_temp.to_out[0].weight
            projection.copy_(draw(*projection.shape, seed=seed))
    return video_unet


def output(video_unet: VideoUNet, latents: torch.Tensor = LATENTS) -> torch.Tensor:
    with torch.no_grad():
        return video_unet(latents, 437, TEXT)


@pytest.mark.parametrize("positions", [False, True])
def test_positions_make_temporal_attention_depend_on_order(make_unet: MakeUNet, positions: bool) -> None:
    options = {"group_norm": "frame", "attention": "per_frame", "temporal_positions": positions}
    video_unet, order = with_temporal_attention_only(inflate(make_unet(), **options)), [2, 0, 3, 1]
    gap = (output(video_unet, LATENTS[:, :, order]) - output(video_unet)[:, :, order]).abs().max()
    assert gap > 1e-2 if positions else gap < 1e-5


def test_two_clips_of_a_batch_have_the_same_positions(make_unet: MakeUNet) -> None:
    video_unet = with_temporal_attention_only(inflate(make_unet(), temporal_positions=True))
    with torch.no_grad():
        both = video_unet(torch.cat([LATENTS, LATENTS + 1]), 437, TEXT.expand(2, -1, -1))
    torch.testing.assert_close(both[1:], output(video_unet, LATENTS + 1))


def test_positions_change_nothing_before_tuning(make_unet: MakeUNet) -> None:
    assert torch.equal(output(inflate(make_unet(), temporal_positions=True)), output(inflate(make_unet())))


@pytest.mark.parametrize("positions", [False, True])
def test_weights_load_only_with_the_same_positions_option(make_unet: MakeUNet, tmp_path: Path, positions: bool) -> None:
    tuned = with_temporal_attention_only(inflate(make_unet(), temporal_positions=positions))
    notes = {"temporal_positions": "yes", "prompt": "a man"}  # as a file says that was loaded before
    path = save_tuned(tuned, tmp_path / "a.safetensors", metadata=notes)
    same = inflate(make_unet(), temporal_positions=positions)
    assert load_tuned(same, path)["prompt"] == "a man"
    assert torch.equal(output(same), output(tuned))
    other = inflate(make_unet(), temporal_positions=not positions)
    before = {name: weight.detach().clone() for name, weight in trainable_parameters(other).items()}
    with pytest.raises(ValueError, match=f"tuned with temporal_positions={positions}"):
        load_tuned(other, path)
    assert all(torch.equal(weight, before[name]) for name, weight in trainable_parameters(other).items())
