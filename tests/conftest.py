"""Small models and inputs that tests share. Weights are made up, from seeds of their own."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

SD1 = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
}
SD2 = SD1 | {
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": (2, 4, 4),
    "use_linear_projection": True,
    "upcast_attention": True,
}
SHAPES = {"sd1": SD1, "sd2": SD2}

EPSILON = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
VELOCITY_ZERO_SNR = EPSILON | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}

MakeUNet = Callable[..., UNet2DConditionModel]


@pytest.fixture
def make_unet() -> MakeUNet:
    """A tiny UNet with all weights drawn anew: make_unet("sd1"), make_unet("sd2", cross_attention_dim=8)."""

    def make(shape: str = "sd1", **changes: object) -> UNet2DConditionModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return UNet2DConditionModel(**(SHAPES[shape] | changes)).eval()

    return make


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The largest error as a share of the largest expected value."""
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]).returncode:
        pytest.skip("No file system can be mounted here; run as root on Linux.")
    yield disk
    subprocess.run(["umount", disk], check=True)
