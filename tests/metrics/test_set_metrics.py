"""FID and Inception Score on a made-up network, against their formulas written out."""

import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from tav_core.metrics import SetMeasures, load_inception

pytest.importorskip("torchmetrics")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")


class Colours(nn.Module):
    """Features: mean and first pixel's colour, in [0, 1]. Logits: eight times the mean colour."""

    def forward(self, pictures):
        assert pictures.dtype == torch.uint8
        values = pictures.float() / 255
        mean = values.mean((2, 3))
        return torch.cat([mean, values[:, :, 0, 0]], dim=1), 8 * mean


def clips(seed, count=6):
    rng = np.random.default_rng(seed)
    return [(rng.random((5, 8, 9, 3)) * rng.random((5, 1, 1, 3))).astype(np.float32) for _ in range(count)]


def described(clips):
    pictures = torch.from_numpy(np.concatenate(clips)).permute(0, 3, 1, 2).mul(255).round().byte()
    return [values.double().numpy() for values in Colours()(pictures)]


def test_figures_by_their_formulas():
    sources, edits = clips(0), [clip**2 for clip in clips(1)]
    measures = SetMeasures(Colours())
    for source, edit in zip(sources, edits, strict=True):
        measures.add(source, edit)
    got = measures.compute(splits=1)

    (a, _), (b, logits) = described(sources), described(edits)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    distance = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert got["fid"] == pytest.approx(distance, rel=1e-3)

    p = scipy.special.softmax(logits, axis=1)
    divergence = (p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()
    assert got["inception_score"] == pytest.approx(np.exp(divergence), rel=1e-4)


def test_equal_sets_and_the_global_generator():
    measures = SetMeasures(Colours())
    for clip in clips(0):
        measures.add(clip, clip)
    before = torch.random.get_rng_state()
    first, second = measures.compute(splits=3), measures.compute(splits=3)
    assert first == second
    assert first["fid"] == pytest.approx(0, abs=1e-4)
    assert torch.equal(before, torch.random.get_rng_state())


def test_too_few_frames():
    measures = SetMeasures(Colours())
    measures.add(clips(0)[0], clips(1)[0])
    with pytest.raises(ValueError, match="10 frames"):
        measures.compute()


@pytest.mark.parametrize("package", ["torchmetrics.image.fid", "torch_fidelity.feature_extractor_inceptionv3"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match="pip install torchmetrics torch-fidelity torchvision"):
        SetMeasures(Colours()) if "metrics" in package else load_inception("weights.pth")
