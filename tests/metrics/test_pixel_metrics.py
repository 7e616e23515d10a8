"""PSNR and SSIM, against numbers done by hand and against scikit-image."""

import numpy as np
import pytest
import torch

from tav_core.metrics import background_psnr, psnr, ssim


def clip(seed, shape=(3, 24, 31, 3)):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_psnr_by_hand():
    source = np.full((2, 4, 4, 3), 0.5, np.float32)
    edit = source.copy()
    edit[0] += 0.1  # mean squared error 0.01 in one of two frames: 0.005
    assert psnr(edit, source) == pytest.approx(-10 * np.log10(0.005), abs=1e-4)
    assert psnr(source, source) == pytest.approx(100)


def test_background_psnr_excludes_the_mask_and_its_margin():
    source = np.zeros((1, 20, 20, 3), np.float32)
    covered = np.zeros((1, 20, 20), np.float32)
    covered[0, 10, 10] = 0.3
    edit = source.copy()
    edit[0, 6:15, 6:15] = 1  # 4 pixels around the mask
    assert background_psnr(edit, source, covered) == pytest.approx(100)
    edit[0, 5, 10] = 0.6  # one pixel in 400 - 81 that count
    assert background_psnr(edit, source, covered) == pytest.approx(-10 * np.log10(0.36 / 319), abs=1e-3)
    assert background_psnr(edit, source, np.ones_like(covered)) is None
    with pytest.raises(ValueError, match="mask"):
        background_psnr(edit, source, covered[:, 1:])


def test_ssim_agrees_with_scikit_image():
    # scikit-image 0.26: structural_similarity(edit, source, channel_axis=-1, gaussian_weights=True, sigma=1.5,
    # use_sample_covariance=False, data_range=1) of each frame, in float64.
    source = clip(0)
    edit = np.clip(source + 0.2 * (clip(1) - 0.5), 0, 1)
    np.testing.assert_allclose(ssim(edit, source), [0.97940997, 0.98149806, 0.97951258], atol=1e-7)


def test_ssim_of_flat_frames_by_hand():
    a, b = np.full((1, 12, 12, 3), 0.25), np.full((1, 12, 12, 3), 0.75)
    assert ssim(a, b)[0] == pytest.approx((2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4))
    np.testing.assert_allclose(ssim(clip(0), clip(0)), 1)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_clips_of_other_shapes_raise(measure):
    with pytest.raises(ValueError, match="3 frames of 31 x 24 pixels, its source 2 frames"):
        measure(clip(0), clip(0)[:2])
    with pytest.raises(ValueError, match="shape"):
        measure(clip(0)[0], clip(0)[0])


def test_ssim_raises_for_frames_smaller_than_its_window():
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(clip(0)[:, :8], clip(0)[:, :8])


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_pixels_of_8_bits_are_refused(measure):
    frames = np.full((2, 16, 16, 3), 128, np.uint8)
    for wrong in (frames, frames.astype(np.float32), torch.from_numpy(frames)):
        with pytest.raises(ValueError, match="divide pixels of 8 bits by 255"):
            measure(wrong, wrong)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_tensors_and_arrays_measure_alike(measure):
    rng = np.random.default_rng(0)
    frames, source = (rng.random((2, 16, 16, 3)).astype(np.float32) for _ in range(2))
    np.testing.assert_array_equal(measure(frames, source), measure(torch.from_numpy(frames), torch.from_numpy(source)))
