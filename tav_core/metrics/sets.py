"""FID and Inception Score of many clips; for a single clip neither has a meaning.

Both are computed by torchmetrics, with the Inception network of torch-fidelity (which needs torchvision) and weights
from a file on disk. All three packages are optional:

    pip install torchmetrics torch-fidelity torchvision

The weights are weights-inception-2015-12-05-6726825d.pth, from the releases of github.com/toshas/torch-fidelity.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

_BATCH = 16  # frames that pass through the network at once
_INSTALL = "FID and Inception Score need three more packages: pip install torchmetrics torch-fidelity torchvision."


class SetMeasures:
    """Collects the features of source clips and of their edits; `compute` returns the two figures.

    Arguments:
        network: uint8 pictures (n, 3, h, w) -> features for FID (n, d) and logits for the Inception Score (n, classes);
            `load_inception` loads that of published figures.

    Raises:
        ValueError: if torchmetrics is not installed.
    """

    def __init__(self, network: nn.Module):
        self._metrics = _torchmetrics()
        self.network = network
        self._sources: list[Tensor] = []
        self._edits: list[Tensor] = []
        self._logits: list[Tensor] = []

    @torch.no_grad()
    def add(self, source: np.ndarray, edit: np.ndarray) -> None:
        """Add one source and its edit, (f, h, w, 3) in [0, 1] each; they may differ in size and length."""
        self._sources += [self.network(batch)[0] for batch in _batches(source)]
        for features, logits in map(self.network, _batches(edit)):
            self._edits.append(features)
            self._logits.append(logits)

    def compute(self, splits: int = 10) -> dict[str, float]:
        """The figures over all frames so far.

        Returns:
            fid: Frechet distance of the edits' frames to the sources' (arXiv:1706.08500), 0 or more, lower is closer.
            It is biased upwards for few frames; below 2,048 it depends mostly on their number.
            inception_score: of the edits' frames (arXiv:1606.03498), in the mean over `splits` parts of them in random
            order (drawn from a fixed seed), from 1 up to the number of classes, higher is better.

        Raises:
            ValueError: if there are fewer frames than parts.
        """
        FrechetInceptionDistance, InceptionScore = self._metrics
        edits, sources, logits = torch.cat(self._edits), torch.cat(self._sources), torch.cat(self._logits)
        if min(len(edits), len(sources)) < max(2, splits):
            raise ValueError(f"FID and Inception Score need {max(2, splits)} frames or more, got {len(edits)}.")
        distance = FrechetInceptionDistance(feature=_Precomputed(edits.shape[1]))
        distance.update(sources, real=True)
        distance.update(edits, real=False)
        score = InceptionScore(feature=_Precomputed(logits.shape[1]), splits=splits)
        score.update(logits)
        with torch.random.fork_rng(devices=[]):  # torchmetrics shuffles with the global generator
            torch.manual_seed(0)
            return {"fid": float(distance.compute()), "inception_score": float(score.compute()[0])}


def load_inception(weights: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """Load torch-fidelity's port of the Inception network with which FID was published, from a local file.

    Raises:
        ValueError: if a package is not installed, there is no such file, or it holds other weights.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ValueError(_INSTALL) from error
    outputs = ["2048", "logits_unbiased"]
    try:
        # torch-fidelity unpickles its weights: it gets a pickle in memory of what was read from safetensors.
        state = BytesIO()
        torch.save(load_file(weights), state)
        state.seek(0)
        network = FeatureExtractorInceptionV3("inception", outputs, feature_extractor_weights_path=state)
    except Exception as error:  # the file is missing, no safetensors file, or holds other tensors
        raise ValueError(
            f"The Inception weights {weights} cannot be read ({error}). Give torch-fidelity's "
            "weights-inception-2015-12-05-6726825d as .safetensors; pickled weights (.pth) are never opened."
        ) from error
    return network.to(device).eval().requires_grad_(False)


class _Precomputed(nn.Module):
    """Returns features that were computed before, so that the network runs once on each frame for both measures."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _torchmetrics() -> tuple[type, type]:
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.inception import InceptionScore
    except ImportError as error:
        raise ValueError(_INSTALL) from error
    return FrechetInceptionDistance, InceptionScore


def _batches(frames: np.ndarray) -> Iterable[Tensor]:
    """(f, h, w, 3) in [0, 1] -> batches of uint8 (n, 3, h, w)."""
    pixels = (np.clip(frames, 0, 1) * 255).round().astype(np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).split(_BATCH)
