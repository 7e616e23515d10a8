"""Deflickering: edits get nearer to the truth, and stay unchanged where there is no flicker."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tav_core import deflicker as deflickered_frames
from tav_core.editing.deflicker import _means
from tav_core.metrics import estimate_motion, psnr, warp_error
from tav_core.video.optical_flow import Neighbour

SIZE, COUNT = 96, 6


def deflicker(edit: Tensor, clip: Tensor, decoded: Tensor | None = None) -> Tensor:
    return torch.stack(list(deflickered_frames(edit, clip, decoded)))


def moving_clip(num_frames: int = COUNT) -> np.ndarray:
    """A textured disc that moves right over a textured ground: (f, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(0)
    ground, disc = (
        cv2.normalize(cv2.GaussianBlur(rng.random((SIZE, SIZE, 3)).astype(np.float32), (0, 0), 2), None, low, high, 32)
        for low, high in ((0.0, 0.4), (0.5, 0.9))
    )
    y, x = np.mgrid[:SIZE, :SIZE]
    frames = []
    for i in range(num_frames):
        inside = ((x - 30 - 3 * i) ** 2 + (y - 48) ** 2 < 18**2)[..., None]
        frames.append(np.where(inside, np.roll(disc, 3 * i, axis=1), ground))
    return np.stack(frames).astype(np.float32).clip(0, 1)


def recoloured(clip: np.ndarray) -> np.ndarray:
    """The true edit: what is bright turns blue."""
    bright = (clip.mean(-1, keepdims=True) > 0.45).astype(np.float32)
    return clip * (1 - bright * np.float32([0.8, 0.8, 0]))


def flickering(frames: np.ndarray, amount: float = 0.06) -> np.ndarray:
    """Patches of some ten pixels, others in each frame, are brighter or darker."""
    noise = np.random.default_rng(1).standard_normal(frames.shape).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 4) for frame in noise])
    return np.clip(frames + amount * smooth / smooth.std(), 0, 1)


def tensors(*clips: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(clip.copy()) for clip in clips]


def test_deflickering_brings_the_edit_nearer_to_the_truth() -> None:
    clip = moving_clip()
    truth = recoloured(clip)
    edit = flickering(truth)
    deflickered = deflicker(*tensors(edit, clip)).numpy()
    motion = estimate_motion(clip)
    assert psnr(deflickered, truth) > psnr(edit, truth) + 3
    assert warp_error(deflickered, motion).mean() < 0.5 * warp_error(edit, motion).mean()


def test_a_frame_of_other_content_is_kept_and_changes_no_other() -> None:
    clip = moving_clip()
    edit = recoloured(clip)
    edit[2] = 1 - clip[2]
    deflickered = deflicker(*tensors(edit, clip)).numpy()
    others = [0, 1, 3, 4, 5]
    assert psnr(deflickered[others], recoloured(clip)[others]) > 35
    assert psnr(deflickered[2:3], edit[2:3]) > 25


def test_an_occluded_neighbour_has_no_weight() -> None:
    edited = np.full((2, 8, 8, 3), 0.5, np.float32)
    edited[1] = 0.55
    y, x = np.mgrid[:8, :8].astype(np.float32)
    here, away = np.stack([x, y], -1), np.stack([x + 100, y], -1)
    itself = Neighbour(0, here, np.ones((8, 8), bool), here)
    half = np.arange(8) < 4
    _, frame = _means(np.zeros_like(edited), edited, 0, [itself, Neighbour(1, here, np.tile(half, (8, 1)), away)])
    assert np.all(frame[:, half] > 0.52) and np.all(frame[:, ~half] == np.float32(0.5))


def test_an_edited_background_stays_sharp_around_a_moving_object() -> None:
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    far = [np.hypot(x - 24 - 4 * i, y - 48) for i in range(12)]
    plain, stripes = (
        np.full((SIZE, SIZE, 3), (0.05, 0.05, 0.2)),
        np.repeat(0.15 + 0.05 * np.sin((x + y) / 2)[..., None], 3, 2),
    )
    clip, edit = (
        np.stack([np.where((d < 14)[..., None], colour, ground) for d in far]).astype(np.float32)
        for colour, ground in ((np.float32([1, 0.7, 0.8]), plain), (np.float32([1, 1, 1]), stripes))
    )
    deflickered = deflicker(*tensors(edit, clip)).numpy()
    around = np.stack([(d > 18) & (d < 30) for d in far])
    assert np.square(deflickered - edit)[around].mean() < 5e-4  # 33 dB; along the flow alone 29.6


def test_unedited_frames_are_unchanged_to_the_bit() -> None:
    clip = moving_clip()
    assert torch.equal(deflicker(*tensors(clip, clip)), torch.from_numpy(clip))
    lossy = np.clip(clip + 0.02, 0, 1)
    assert torch.equal(deflicker(*tensors(lossy, clip, lossy)), torch.from_numpy(clip))


def test_autoencoder_loss_is_restored_outside_the_edit_only() -> None:
    clip = moving_clip()
    lossy = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in clip])
    edit, left = recoloured(lossy), slice(75, None)  # the last rows are ground alone
    without, given = deflicker(*tensors(edit, clip)).numpy(), deflicker(*tensors(edit, clip, lossy)).numpy()
    assert psnr(given[:, left], clip[:, left]) > psnr(without[:, left], clip[:, left]) + 10
    inside = (slice(None), slice(40, 56), slice(60, 70))
    all_back = edit + clip - lossy
    assert psnr(given[inside], edit[inside]) > psnr(all_back[inside], edit[inside]) + 3


def test_inputs_are_not_changed_and_one_frame_is_kept() -> None:
    clip = moving_clip(1)
    edit, same, decoded = tensors(recoloured(clip), clip, clip)
    before = edit.clone()
    assert (deflicker(edit.half(), same, decoded) - before).abs().max() < 2e-3
    assert (deflicker(edit, same) - before).abs().max() < 1e-5
    assert torch.equal(edit, before)


def test_mismatched_frames_raise() -> None:
    edit, clip = tensors(moving_clip(2), moving_clip(3))
    with pytest.raises(ValueError, match="for the clip, \\(3, 96, 96, 3\\)"):
        deflicker(edit, clip)
    with pytest.raises(ValueError, match="for the decoded clip"):
        deflicker(edit, edit, clip)
    with pytest.raises(ValueError, match="the clip"):
        deflicker(edit, edit * 3)
    with pytest.raises(TypeError):
        deflicker("edit", edit)  # type: ignore[arg-type]
