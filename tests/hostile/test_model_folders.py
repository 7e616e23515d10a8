"""Malicious and incomplete model folders: one clear error, no code is run, no weights are made up."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tav_core import inflate, load_model, load_tuned
from tav_core.models.folder import ModelError
from tests.conftest import MakeUNet

from .readers import make_model

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
PICKLES = {
    "unet": "diffusion_pytorch_model.bin",
    "vae": "diffusion_pytorch_model.bin",
    "text_encoder": "pytorch_model.bin",
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "a model, größer")


class Harm:
    """Makes a folder where it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


def write_harm(path: Path, place: Path, *, zipped: bool) -> None:
    """A pickle of the old kind, or in a zip archive as torch.save writes it."""
    if zipped:
        torch.save({"weight": Harm(place)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Harm(place)}))


def test_the_pickle_of_these_tests_runs_code_when_opened(tmp_path: Path) -> None:
    write_harm(tmp_path / "harm.bin", tmp_path / "executed", zipped=True)
    torch.load(tmp_path / "harm.bin", weights_only=False)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", WEIGHTS)
def test_pickled_weights_raise_alone_and_are_ignored_next_to_safetensors(folder: Path, part: str, zipped: bool) -> None:
    executed = folder.parent / "executed"
    for name in (PICKLES[part], "model.ckpt", "model.pt"):
        write_harm(folder / part / name, executed, zipped=zipped)
    load_model(folder)
    (folder / part / f"{WEIGHTS[part]}.safetensors").unlink()
    with pytest.raises(ModelError, match="Pickled .bin weights are never opened.*safe_serialization=True"):
        load_model(folder)
    (folder / part / "other.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=f"The {part} of the model"):
        load_model(folder)
    assert not executed.exists()


@pytest.mark.parametrize("shard", ["harm.bin", "../harm.safetensors", "C:\\harm.bin", 7])
@pytest.mark.parametrize("part", WEIGHTS)
def test_a_list_of_shards_cannot_name_other_files(folder: Path, part: str, shard: object) -> None:
    executed = folder.parent / "executed"
    write_harm(folder / part / "harm.bin", executed, zipped=True)
    weights = folder / part / f"{WEIGHTS[part]}.safetensors"
    names = dict.fromkeys(load_file(weights), shard)
    weights.rename(folder / part / "a.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (folder / part / f"{WEIGHTS[part]}.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="are never opened|cannot be read"):
        load_model(folder)
    assert not executed.exists()


def test_pickled_tuned_weights_raise(make_unet: MakeUNet, tmp_path: Path) -> None:
    for name, zipped in (("a.safetensors", True), ("b.safetensors", False), ("c.pt", True)):
        write_harm(tmp_path / name, tmp_path / "executed", zipped=zipped)
        with pytest.raises(ValueError, match=f"{name} is not a complete safetensors file"):
            load_tuned(inflate(make_unet()), tmp_path / name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("unet/config.json", {"block_out_channels": [2**19, 2**19], "norm_num_groups": 8}, "describes .* weights"),
        ("unet/config.json", {"layers_per_block": 10**6}, "layers_per_block = 1000000"),
        ("unet/config.json", {"down_block_types": ["DownBlock2D"] * 1000}, "lists 1000 of down_block_types"),
        ("vae/config.json", {"scaling_factor": float("nan")}, "scaling_factor = nan"),
        ("text_encoder/config.json", {"vocab_size": 2**20}, "describes .* weights"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "num_train_timesteps = 1000000000000"),
    ],
)
def test_absurd_numbers_in_a_config_raise(folder: Path, file: str, change: dict[str, object], message: str) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_missing_tensor_is_not_replaced_by_random_numbers(folder: Path, part: str) -> None:
    weights = folder / part / f"{WEIGHTS[part]}.safetensors"
    tensors = load_file(weights)
    tensors.pop(min(tensors))
    tensors["padding"] = torch.zeros(100_000)
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ModelError, match=f"The {part} of the model .* lack 1 tensors"):
        load_model(folder)


def test_a_tokenizer_of_another_model_raises(folder: Path) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    words = json.loads(file.read_text())
    words["model"]["vocab"]["zebra"] = 49407
    file.write_text(json.dumps(words))
    vocabulary = folder / "tokenizer" / "vocab.json"  # which transformers before 5 reads
    vocabulary.write_text(json.dumps(json.loads(vocabulary.read_text()) | {"zebra": 49407}))
    with pytest.raises(ModelError, match="has ids up to 49407.* 652.* do not belong together"):
        load_model(folder)


def test_an_adapter_config_cannot_load_another_model(folder: Path) -> None:
    (folder / "text_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(ModelError, match="holds an adapter"):
        load_model(folder)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", ["someone/else", "flash_attention_2", ["sdpa"]])
def test_a_config_cannot_download_a_kernel(folder: Path, key: str, value: object) -> None:
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ModelError, match="never downloaded"):
        load_model(folder)


@pytest.mark.parametrize(
    "name", ["unet", "vae/config.json", "text_encoder/model.safetensors", "tokenizer/tokenizer.json"]
)
def test_a_model_deleted_while_loading(folder: Path, name: str) -> None:
    load_model(folder)
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    else:
        (folder / name).unlink()
    if name.startswith("tokenizer"):
        shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ModelError, match=f"größer.*{name.split('/')[0]}|{name.split('/')[0]}.*größer"):
        load_model(folder)


def test_a_tokenizer_without_a_padding_token(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = folder / "tokenizer" / name
        if file.exists():
            content = json.loads(file.read_text())
            file.write_text(json.dumps(content | {"pad_token": None}))
    with pytest.raises(ModelError, match="größer has no padding token"):
        load_model(folder)
