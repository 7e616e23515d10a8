"""Tuned weights in a file: saved and loaded at any strength, all or nothing."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tav_core import VideoUNet, inflate, load_tuned, save_tuned, trainable_parameters
from tav_core.store import apply_tuned
from tests.conftest import MakeUNet, draw


@pytest.fixture
def tuned_unet(make_unet: MakeUNet) -> VideoUNet:
    """A model whose trained weights are off their base."""
    video_unet = inflate(make_unet())
    with torch.no_grad():
        for seed, parameter in enumerate(trainable_parameters(video_unet).values()):
            parameter.add_(0.1 * draw(*parameter.shape, seed=seed))
    return video_unet


def output(video_unet: VideoUNet) -> Tensor:
    with torch.no_grad():
        return video_unet(draw(1, 4, 3, 6, 6), 437, draw(1, 5, 12))


def test_file_holds_the_trained_tensors_alone(tuned_unet: VideoUNet, tmp_path: Path) -> None:
    path = save_tuned(tuned_unet, tmp_path / "new folder" / "Motion é.safetensors", metadata={"prompt": "a man"})
    parameters = trainable_parameters(tuned_unet)
    tensors = load_file(path)
    assert tensors.keys() == parameters.keys()
    assert all(torch.equal(tensors[name], parameter) for name, parameter in parameters.items())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_loads_the_same_bits_and_the_metadata(tuned_unet: VideoUNet, make_unet: MakeUNet, tmp_path: Path) -> None:
    path = save_tuned(tuned_unet, tmp_path / "a.safetensors", metadata={"prompt": "a man"})
    fresh = inflate(make_unet())
    with torch.inference_mode():
        metadata = load_tuned(fresh, str(path))
    assert metadata["prompt"] == "a man"
    assert torch.equal(output(fresh), output(tuned_unet))
    assert not any(parameter.is_inference() for parameter in fresh.parameters())


def test_strength_is_measured_from_the_image_model_each_time(
    tuned_unet: VideoUNet, make_unet: MakeUNet, tmp_path: Path
) -> None:
    path = save_tuned(tuned_unet, tmp_path / "a.safetensors")
    video_unet, base, tuned = inflate(make_unet()), inflate(make_unet()), trainable_parameters(tuned_unet)
    start = {name: parameter.detach().clone() for name, parameter in trainable_parameters(base).items()}
    for strength in (1.0, 0.5, 2.0, 0.5):
        load_tuned(video_unet, path, strength=strength)
        for name, parameter in trainable_parameters(video_unet).items():
            fades = ".attn_temp." not in name or ".to_out." in name
            expected = start[name] + strength * (tuned[name] - start[name]) if fades else tuned[name]
            torch.testing.assert_close(parameter, expected)
    load_tuned(video_unet, path, strength=0.0)
    assert torch.equal(output(video_unet), output(base))
    load_tuned(video_unet, path, strength=1.0)
    assert torch.equal(output(video_unet), output(tuned_unet))


def test_half_precision_file_and_half_precision_model(
    tuned_unet: VideoUNet, make_unet: MakeUNet, tmp_path: Path
) -> None:
    path = save_tuned(tuned_unet, tmp_path / "a.safetensors", dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    fresh = inflate(make_unet().bfloat16())
    load_tuned(fresh, path)
    assert {parameter.dtype for parameter in trainable_parameters(fresh).values()} == {torch.float32}
    torch.testing.assert_close(output(fresh), output(tuned_unet), rtol=0, atol=0.05)


def rewritten(path: Path, change: object) -> Path:
    """The file with its tensors changed and its metadata kept."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)
    return path


ONE = "mid_block.attentions.0.transformer_blocks.0.attn_temp.to_q.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(ONE), "belong to another model: 1 tensors are missing and 0 unknown"),
        (lambda tensors: tensors.update(other=torch.zeros(1)), "0 tensors are missing and 1 unknown, such as other"),
        (lambda tensors: tensors.update({ONE: torch.zeros(2, 2)}), "another model: .* has shape .2, 2."),
        (lambda tensors: tensors[ONE].fill_(torch.nan), "not finite"),
    ],
)
def test_wrong_tensors_change_nothing(
    tuned_unet: VideoUNet, make_unet: MakeUNet, tmp_path: Path, change: object, message: str
) -> None:
    path = rewritten(save_tuned(tuned_unet, tmp_path / "a.safetensors"), change)
    fresh = inflate(make_unet())
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_tuned(fresh, path)
    tensors = {name: tensor.clone() for name, tensor in trainable_parameters(tuned_unet).items()}
    change(tensors)
    with pytest.raises(ValueError, match=message):
        apply_tuned(fresh, tensors)
    assert all(torch.equal(before[name], tensor) for name, tensor in fresh.state_dict().items())


def test_files_without_tuned_weights_raise(tuned_unet: VideoUNet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No tuned weights at"):
        load_tuned(tuned_unet, tmp_path / "missing.safetensors")
    path = save_tuned(tuned_unet, tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load_tuned(tuned_unet, path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a file of save_tuned"):
        load_tuned(tuned_unet, path)


def test_a_flipped_bit_raises_and_changes_nothing(tuned_unet: VideoUNet, tmp_path: Path) -> None:
    path = save_tuned(tuned_unet, tmp_path / "a.safetensors")
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    before = {name: parameter.detach().clone() for name, parameter in trainable_parameters(tuned_unet).items()}
    with pytest.raises(ValueError, match=r"a.safetensors is damaged: its content does not match its checksum"):
        load_tuned(tuned_unet, path)
    assert all(torch.equal(before[name], now) for name, now in trainable_parameters(tuned_unet).items())


def test_changed_metadata_raise(tuned_unet: VideoUNet, tmp_path: Path) -> None:
    path = save_tuned(tuned_unet, tmp_path / "a.safetensors", metadata={"caption": "a man is skiing"})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata | {"caption": "a man is surfing"})
    with pytest.raises(ValueError, match=r"a.safetensors is damaged: its content does not match its checksum"):
        load_tuned(tuned_unet, path)


def test_interrupted_write_leaves_the_old_file(
    tuned_unet: VideoUNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_tuned(tuned_unet, tmp_path / "a.safetensors")
    old = path.read_bytes()

    def full_disk(file_number: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_tuned(tuned_unet, path, dtype=torch.float16)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_must_be_strings(tuned_unet: VideoUNet, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"metadata\['steps'\] must be text, not 500"):
        save_tuned(tuned_unet, tmp_path / "a.safetensors", metadata={"steps": 500})


@pytest.mark.parametrize("option", [{"attention": "per_frame"}, {"group_norm": "frame"}])
def test_weights_load_only_into_a_model_inflated_alike(make_unet: MakeUNet, tmp_path: Path, option: dict) -> None:
    ((name, value),) = option.items()
    path = save_tuned(inflate(make_unet(), **option), tmp_path / "tuned.safetensors")
    load_tuned(inflate(make_unet(), **option), path)
    with pytest.raises(ValueError, match=f"tuned with {name}={value}, this model was inflated with {name}="):
        load_tuned(inflate(make_unet()), path)
    plain = save_tuned(inflate(make_unet()), tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match=f"this model was inflated with {name}={value}"):
        load_tuned(inflate(make_unet(), **option), plain)
