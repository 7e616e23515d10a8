"""Heat over frames, and the grid of words."""

import pytest
import torch

from tav_core.viz.heat_maps import heat_map_grid, heat_overlay


def test_overlay_is_bright_where_the_heat_is() -> None:
    frames, heat = torch.full((2, 16, 16, 3), 0.5), torch.zeros(2, 4, 4)
    heat[1, 1, 1] = 1.0
    cold, hot = heat_overlay(frames, heat)
    assert cold.shape == (16, 16, 3) and (cold.std(dim=(0, 1)) < 1e-6).all()
    assert hot.sum(dim=-1).argmax().item() in {16 * y + x for y in range(4, 8) for x in range(4, 8)}
    torch.testing.assert_close(hot[12:, 12:], cold[12:, 12:])


def test_overlay_keeps_the_picture_visible() -> None:
    frames = torch.rand((1, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    cold = heat_overlay(frames, torch.zeros(1, 4, 4))
    grey = frames @ torch.tensor([0.299, 0.587, 0.114])
    assert torch.corrcoef(torch.stack([cold[..., 0].flatten(), grey.flatten()]))[0, 1] > 0.99


@pytest.mark.parametrize("heat", [torch.zeros(3, 4, 4), torch.zeros(4, 4), torch.full((2, 4, 4), 15.0)])
def test_other_heat_is_refused(heat: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"Heat is \(frames|heat must lie in"):
        heat_overlay(torch.zeros(2, 16, 16, 3), heat)


def test_grid_has_a_panel_for_each_word_also_for_one_said_twice() -> None:
    frames, heat = torch.zeros(2, 64, 64, 3), torch.zeros(2, 4, 4)
    five = heat_map_grid(frames, [(word, heat) for word in ("a", "star", "on", "a", "sea")])
    assert five.shape[0] == 2 and five.shape[2] == 4 * 256
    assert five.shape[1] > 2 * 256
