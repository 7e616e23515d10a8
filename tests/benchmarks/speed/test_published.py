"""The worker that runs the published implementation, on a stand-in for it."""

import sys
from pathlib import Path

import pytest

from benchmarks.harness import CHECKPOINTING, SAMPLING, TUNING
from benchmarks.speed import unet
from benchmarks.speed.published import Published

pytestmark = pytest.mark.slow

STAND_IN = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q = nn.Linear(4, 4)

    def forward(self, sample):
        return self.to_q(sample.transpose(1, -1)).transpose(1, -1)


class UNet3DConditionModel(nn.Module):
    def __init__(self, **config):
        super().__init__()
        self.down, self.up = nn.ModuleDict({"attn1": Part()}), nn.ModuleDict({"attn2": Part()})
        self.frozen, self.checkpointing = nn.Linear(4, 4), False

    def enable_gradient_checkpointing(self):
        self.checkpointing = True

    def forward(self, sample, timestep, encoder_hidden_states):
        assert sample.shape[2:] == (3, 8, 8) and len(sample) == len(encoder_hidden_states)
        down = self.down["attn1"]
        sample = checkpoint(down, sample, use_reentrant=True) if self.checkpointing else down(sample)
        print("noise on stdout")
        return type("Output", (), {"sample": self.up["attn2"](sample)})
"""


@pytest.mark.parametrize(
    ("kind", "trained"),
    [(SAMPLING, 0), (TUNING, 4), (f"{CHECKPOINTING}, as published", 2), (f"{CHECKPOINTING}, repaired", 4)],
)
def test_worker_reports_seconds_memory_and_trained_tensors(tmp_path: Path, kind: str, trained: int) -> None:
    package = tmp_path / "tuneavideo" / "models"
    package.mkdir(parents=True)
    (package / "unet.py").write_text(STAND_IN)
    worker = Published(str(tmp_path), sys.executable, unet.Case(frames=3, latent=8, tiny=True), kind)
    try:
        seconds = worker()
    finally:
        worker.close()
    assert 0 < seconds == worker.last["seconds"]
    assert (worker.last["trained"], worker.last["trainable"]) == (trained, 4)
    assert worker.last["peak"] >= worker.resident > 2**24


def test_import_failure_of_the_published_implementation_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with code 1"):
        Published(str(tmp_path), sys.executable, unet.Case(tiny=True), TUNING)
