"""Full and read-only disks: a clear error, old files stay whole, and no partial file remains."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tav_core import Store, TuningConfig, inflate, read_video, save_tuned, tune, write_video
from tests.conftest import EPSILON, MakeUNet, draw

NOISE = torch.rand(40, 128, 128, 3, generator=torch.Generator().manual_seed(1))
LATENTS, TEXT = draw(1, 4, 3, 6, 6), draw(1, 5, 12, seed=1)


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "frames"])
def test_a_video_on_a_full_disk(small_disk: Path, name: str) -> None:
    path = write_video(small_disk / name, NOISE[:2, :32, :32], 8)
    (small_disk / "other").write_bytes(bytes(1_800_000))
    before = everything(small_disk)
    with pytest.raises((OSError, ValueError), match=rf"{name}.* could not be written: .*No space left"):
        write_video(path, NOISE, 8)
    assert everything(small_disk) == before
    assert len(read_video(path).frames) == 2


def test_tuned_weights_and_states_on_a_full_disk(small_disk: Path, make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    path = save_tuned(video_unet, small_disk / "a.safetensors")
    free = 2 * 2**20 - path.stat().st_size
    (small_disk / "other").write_bytes(bytes(free - 20_000))
    before = everything(small_disk)
    with pytest.raises(OSError, match=r"disk is full: .*a.safetensors needs .* MB"):
        save_tuned(video_unet, path)
    with pytest.raises(OSError, match=r"disk is full: .*tuned-.*needs .* MB.* files written before are whole"):
        list(Store(small_disk / "store").tune(video_unet, LATENTS, TEXT, EPSILON, TuningConfig(steps=1)))
    assert everything(small_disk) == before
    (small_disk / "other").unlink()
    video_unet.reset()
    list(Store(small_disk / "store").tune(video_unet, LATENTS, TEXT, EPSILON, TuningConfig(steps=1)))


@pytest.mark.parametrize(
    "write",
    [
        lambda folder, unet: write_video(folder / "new.mp4", NOISE[:2], 8),
        lambda folder, unet: write_video(folder / "new", NOISE[:2], 8),
        lambda folder, unet: save_tuned(unet, folder / "new.safetensors"),
        lambda folder, unet: next(Store(folder / "new").tune(unet, LATENTS, TEXT, EPSILON)),
    ],
)
def test_a_read_only_disk(small_disk: Path, make_unet: MakeUNet, write: Callable[..., object]) -> None:
    (small_disk / "old").write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    video_unet = inflate(make_unet())
    with pytest.raises((OSError, ValueError), match=r"new.*(cannot|could not) be written.*Read-only file system"):
        write(small_disk, video_unet)
    assert everything(small_disk) == {small_disk / "old": b"old"}
    assert next(tune(video_unet, LATENTS, TEXT, EPSILON)).step == 1
