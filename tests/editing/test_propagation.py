"""Propagation along the optical flow of a clip's latents."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tav_core.editing.propagation import FlowPropagation, _mean, latent_pictures
from tav_core.video.optical_flow import REACH
from tests.conftest import draw, relative_error

STEP = 1.5  # latent pixels to the right, a frame


def moving_clip(num_frames: int, size: int = 16) -> Tensor:
    """A bright smooth blob that moves on a dull ground: (1, 4, f, size, size)."""
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    frames = [torch.exp(-((x - 4 - STEP * i) ** 2 + (y - 8) ** 2) / 6) for i in range(num_frames)]
    colour = torch.tensor([2.0, -1.0, 0.5, 1.0])
    return (torch.stack(frames) * colour[:, None, None, None])[None]


def at_the_blob(changes: Tensor) -> Tensor:
    """Values at the middle of the blob in each frame: (f, c), between the latent pixels by bilinear weights."""
    size, values = changes.shape[-1], []
    for i in range(changes.shape[2]):
        point = torch.tensor([[[[2 * (4.5 + STEP * i) / size - 1, 2 * 8.5 / size - 1]]]])
        values.append(F.grid_sample(changes[:, :, i], point, align_corners=False).flatten())
    return torch.stack(values)


def test_offsets_are_averaged_along_the_flow() -> None:
    clip = moving_clip(5)
    changes = torch.arange(5.0)[None, None, :, None, None] * (clip[:, :1] > 0.3)
    shared = at_the_blob(FlowPropagation(clip).propagate(changes))
    assert (shared - 2).abs().max() < 0.3, shared  # the mean of 0 to 4
    still = torch.zeros_like(clip)
    apart = at_the_blob(FlowPropagation(still).propagate(changes))
    assert (apart - 2).abs().max() > 0.5, "without motion the changes are fetched from where the blob is not"


def test_a_still_clip_gets_plain_means() -> None:
    clip, changes = draw(1, 4, 1, 6, 9).expand(1, 4, 3, 6, 9), draw(1, 4, 3, 6, 9, seed=1)
    assert (
        relative_error(FlowPropagation(clip).propagate(changes), changes.mean(2, keepdim=True).expand_as(changes))
        < 5e-3
    )


def test_occluded_points_have_no_weight() -> None:
    changes, grid = draw(2, 3, 4, 4), F.affine_grid(torch.eye(2, 3)[None], [1, 1, 4, 4], align_corners=False)
    seen = torch.ones(3, 4, 4)
    seen[1, :2] = 0
    mean = _mean(changes, grid.expand(3, -1, -1, -1), seen)
    assert relative_error(mean[:, :2], changes[:, [0, 2], :2].mean(1)) < 1e-5
    assert relative_error(mean[:, 2:], changes[:, :, 2:].mean(1)) < 1e-5


def test_zero_offsets_stay_zero_and_one_frame_keeps_its_own() -> None:
    clip = moving_clip(3)
    assert torch.equal(FlowPropagation(clip).propagate(torch.zeros_like(clip)), torch.zeros_like(clip))
    alone = draw(1, 4, 1, 16, 16)
    assert relative_error(FlowPropagation(clip[:, :, :1]).propagate(alone), alone) < 1e-5


def test_each_clip_of_a_batch_has_its_own_flow() -> None:
    first, second, changes = moving_clip(3), moving_clip(3).flip(-1), draw(2, 4, 3, 16, 16)
    both = FlowPropagation(torch.cat([first, second])).propagate(changes)
    assert torch.equal(both[:1], FlowPropagation(first).propagate(changes[:1]))
    assert torch.equal(both[1:], FlowPropagation(second).propagate(changes[1:]))


def test_frames_out_of_reach_have_no_weight() -> None:
    count = REACH + 3
    clip, changes = draw(1, 4, 1, 4, 4).expand(1, 4, count, 4, 4), torch.zeros(1, 4, count, 4, 4)
    changes[:, :, -1] = 1
    shared = FlowPropagation(clip).propagate(changes)[0, 0, :, 0, 0]
    assert shared[:2].abs().max() == 0
    assert shared[2:].min() > 0


def test_latents_of_any_type_and_size_make_pictures() -> None:
    assert latent_pictures(draw(4, 2, 5, 9)).shape == (2, 130, 234)
    assert latent_pictures(torch.ones(4, 2, 200, 150)).shape == (2, 200, 150)
    assert len(FlowPropagation(draw(1, 4, 2, 8, 8).half()).tracks[0]) == 2


def test_points_beyond_the_border_take_the_borders_value() -> None:
    """As by `padding_mode="border"`, which not every device has."""
    changes, grids = draw(3, 4, 5, 7), 3 * draw(4, 5, 7, 2, seed=1)
    expected = F.grid_sample(changes.transpose(0, 1), grids, padding_mode="border", align_corners=False).mean(0)
    torch.testing.assert_close(_mean(changes, grids, torch.ones(4, 5, 7)), expected)
