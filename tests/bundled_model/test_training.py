"""The scripts that made the bundled model run on today's library."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bundled_model import pack, text, train_unet, train_vae
from bundled_model.measure import sample_images, words_followed
from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.models.base import ASSETS, load_model

BUNDLED = ASSETS / "demo-model"


def test_pictures_show_their_prompts() -> None:
    rng = np.random.default_rng(5)
    scenes = [world.random_scene(rng) for _ in range(3)]
    pictures = sample_images(load_model(), [scene.caption for scene in scenes], 10, 5.0, seed=1)
    assert pictures.shape == (3, world.SIZE, world.SIZE, 3) and pictures.min() >= 0 and pictures.max() <= 1
    readings = [judge.read(picture) for picture in pictures.numpy()]
    assert words_followed(readings, scenes)["background"] == 1


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> train_unet.Trainer:
    """Continues from the bundled model, in a copy of its folder."""
    monkeypatch.setattr(torch, "compile", lambda module: module)
    shutil.copytree(BUNDLED, tmp_path / "model")
    return train_unet.Trainer(tmp_path / "model", seed=0, count=4, start=tmp_path / "model")


def test_unet_continues_from_its_own_folder_and_is_packed(
    trainer: train_unet.Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "measure", lambda *_: measure(1, 2))
    measure = train_unet.Trainer.measure.__get__(trainer)
    before = {name: weight.clone() for name, weight in trainer.unet.named_parameters()}
    train_unet.train(trainer, steps=2, batch=2, learning_rate=1e-4, warmup=1, decay=0.25)
    assert any(not torch.equal(weight, before[name]) for name, weight in trainer.unet.named_parameters())
    output = tmp_path / "packed"
    output.mkdir()
    (output / "old").touch()
    monkeypatch.setattr(sys, "argv", ["pack", "--model", str(trainer.folder), "--output", str(output)])
    pack.main()
    assert not (output / "old").exists()
    files = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (output, BUNDLED)]
    assert files[0] == files[1]
    assert load_model(output).unet.config.sample_size == world.SIZE // 8


def test_words_of_both_vocabularies_have_the_trained_embedding(tmp_path: Path) -> None:
    known = text.vocabulary(BUNDLED)
    tokenizer = text.build_tokenizer(tmp_path / "tokenizer")
    moved = {token: len(known) - 1 - index for token, index in known.items()}
    same, other = (text.adapt_encoder(BUNDLED, words, tokenizer) for words in (known, moved))
    rows = [encoder.get_input_embeddings().weight for encoder in (same, other)]
    trained = load_model().text_encoder.get_input_embeddings().weight
    for token, index in tokenizer.get_vocab().items():
        assert torch.equal(rows[0][index], trained[known[token]].float())
        assert torch.equal(rows[1][index], trained[moved[token]].float())


@pytest.mark.parametrize("model", ["missing", "packed"])
def test_failed_packing_leaves_the_output_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    output = tmp_path / "packed"
    output.mkdir()
    (output / "old").touch()
    monkeypatch.setattr(sys, "argv", ["pack", "--model", str(tmp_path / model), "--output", str(output)])
    with pytest.raises((SystemExit, OSError)):
        pack.main()
    assert (output / "old").exists()


def test_autoencoder_trains_its_decoder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_vae, "round_trip_psnr", lambda vae, seed, count: 1.0)
    vae = train_vae.train(2, 0, 1e-3, 2e-5, 0.02, BUNDLED / "vae", decoder_only=True)
    before = train_vae.AutoencoderKL.from_pretrained(BUNDLED / "vae")
    changed = {
        part: any(not torch.equal(a, b) for a, b in zip(getattr(vae, part).parameters(), weights, strict=True))
        for part, weights in ((part, getattr(before, part).parameters()) for part in ("encoder", "decoder"))
    }
    assert changed == {"encoder": False, "decoder": True}
    monkeypatch.setattr(sys, "argv", ["train_vae", "--output", str(tmp_path), "--decoder-only"])
    with pytest.raises(SystemExit):
        train_vae.main()
