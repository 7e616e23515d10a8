"""Parts of the training of the bundled model, on a few pictures and steps."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from bundled_model import data, make_clip, pack, train_autoencoder, train_control, train_text_to_image
from bundled_model import text_encoder as text
from bundled_model.muon import make_optimizers, orthogonalize
from bundled_model.run import Schedule, Training, rate_factor, save_atomically
from tav_core import HintControl, load_control
from tav_core.demo import world
from tav_core.models.base import ASSETS, load_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """32 pictures of both sets."""
    path = tmp_path_factory.mktemp("data")
    for name in ("train", "test"):
        data.draw_set(path, name, 32)
    return path


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return AutoencoderKL(**train_autoencoder.CONFIG).eval()


def test_drawing_goes_on_where_it_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_CHUNK", 8)
    made, draw_into = [], data._draw_into

    def stop_after_twelve(arrays, name, index):
        if len(made) == 12:
            raise KeyboardInterrupt
        made.append(index)
        draw_into(arrays, name, index)

    monkeypatch.setattr(data, "_draw_into", stop_after_twelve)
    with pytest.raises(KeyboardInterrupt):
        data.draw_set(tmp_path, "train", 32)
    assert len(data.load_set(tmp_path, "train")) == 8
    monkeypatch.setattr(data, "_draw_into", draw_into)
    data.draw_set(tmp_path, "train", 32)
    whole, resumed = data.load_set(folder, "train"), data.load_set(tmp_path, "train")
    np.testing.assert_array_equal(whole.pictures, resumed.pictures)
    np.testing.assert_array_equal(whole.joints, resumed.joints)


def test_words_and_masks_are_those_of_the_scene(folder):
    pictures = data.load_set(folder, "test")
    scene, words, _ = data.picture_of("test", 5)
    assert scene.motion is not None
    assert pictures.words_of(5) == words
    assert 0.02 < pictures.mask(np.arange(8)).mean() < 0.3
    assert data.picture_of("train", 5)[0].motion is None


def test_crops_lie_on_the_latent_grid(folder):
    pictures = data.load_set(folder, "train")
    images, masks = train_autoencoder.crop_batch(pictures, np.random.default_rng(0), 12, 64)
    assert images.shape == (12, 3, 64, 64)
    assert masks.shape == (12, 1, 64, 64)
    assert masks[1::2].mean() > masks[::2].mean()  # every other crop lies about the figure


def test_standardized_latents_decode_to_the_same_pictures(folder, vae):
    pictures = data.load_set(folder, "train")
    images, _ = train_autoencoder.load_batch(pictures, np.arange(32))
    with torch.no_grad():
        before = vae.decode(vae.encode(images).latent_dist.mode()).sample
        spread = (
            vae.encode(images).latent_dist.std / vae.encode(images).latent_dist.mean.std(dim=(0, 2, 3))[:, None, None]
        )
        train_autoencoder.standardize(vae, pictures, 32)
        posterior = vae.encode(images).latent_dist
        torch.testing.assert_close(vae.decode(posterior.mode()).sample, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(posterior.mean.std(dim=(0, 2, 3)), torch.ones(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.mean.mean(dim=(0, 2, 3)), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.std, spread, atol=1e-3, rtol=1e-3)


def test_more_latent_channels_keep_the_weights_of_the_first(vae):
    torch.manual_seed(1)
    few = AutoencoderKL(**train_autoencoder.CONFIG | dict(latent_channels=4))
    train_autoencoder.widen(few, vae)
    old, new = few.state_dict(), vae.state_dict()
    torch.testing.assert_close(new["decoder.conv_in.weight"][:, :4], old["decoder.conv_in.weight"])
    torch.testing.assert_close(new["encoder.conv_out.weight"][16:20], old["encoder.conv_out.weight"][4:])
    torch.testing.assert_close(new["quant_conv.weight"][:4, 16:20], old["quant_conv.weight"][:4, 4:])
    torch.testing.assert_close(new["encoder.conv_in.weight"], old["encoder.conv_in.weight"])


def make_run(folder, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    schedule = Schedule(minutes=1e6, decay_share=0.1, warmup_steps=3)
    return Training(folder, dict(model=model), make_optimizers([model], 1e-2, 1e-2), schedule, 0.9, seed)


def steps(run, count):
    for _ in range(count):
        batch = torch.from_numpy(run.rng.normal(size=(4, 16))).float() + torch.randn(4, 16)
        run.update((run.modules["model"](batch) - 1).square().mean())


def test_a_resumed_run_ends_on_the_same_weights(tmp_path):
    whole = make_run(tmp_path / "whole")
    steps(whole, 8)
    torch.manual_seed(0)
    first = make_run(tmp_path / "parts")
    steps(first, 5)
    first.save()
    steps(first, 2)  # lost
    second = make_run(tmp_path / "parts", seed=9)
    assert second.step == 5
    steps(second, 3)
    for kind in ("modules", "averages"):
        for one, other in zip(
            getattr(whole, kind)["model"].parameters(), getattr(second, kind)["model"].parameters(), strict=True
        ):
            torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_a_kill_while_saving_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    steps(run, 2)
    run.save()

    def killed(state, file):
        Path(file).write_bytes(b"half of a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_atomically({}, tmp_path / "checkpoint.pt")
    assert make_run(tmp_path).step == 2


def test_the_learning_rate_is_flat_and_then_falls():
    assert rate_factor(0.0, 0.25) == rate_factor(0.75, 0.25) == 1.0
    assert rate_factor(0.875, 0.25) == pytest.approx(0.505)
    assert rate_factor(1.0, 0.25) == pytest.approx(0.01)


def test_orthogonalized_matrices_have_singular_values_near_one():
    for shape in ((16, 40), (40, 16), (24, 24)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape, generator=torch.Generator().manual_seed(1))))
        assert 0.4 < values.min() <= values.max() < 1.3


def test_each_word_of_a_caption_is_one_token(tmp_path):
    tokenizer = text.build_tokenizer(tmp_path)
    for seed in range(world.NUM_WORDINGS * 4):
        _, words = world.random_scene(seed)
        caption = world.caption(words, seed)
        tokens = tokenizer.tokenize(caption)
        assert [token.removesuffix("</w>") for token in tokens] == caption.replace(",", " ,").split()
        assert len(tokens) + 2 <= text.FIRST_FREE


def test_the_text_encoder_learns_to_carry_words(tmp_path):
    torch.manual_seed(0)
    tokenizer = text.build_tokenizer(tmp_path)
    assert text.teach_words(text.build_text_encoder(tokenizer), tokenizer, 80, seed=0) > 0.5


def test_latents_are_encoded_once_for_each_autoencoder(folder, vae, tmp_path, monkeypatch):
    pictures = data.load_set(folder, "train")
    first = np.array(train_text_to_image.encode_pictures(vae, pictures, tmp_path))
    assert first.shape == (32, 16, 16, 16)
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda images: pytest.fail("encoded again"))
    np.testing.assert_array_equal(train_text_to_image.encode_pictures(vae, pictures, tmp_path), first)
    monkeypatch.setattr(vae, "encode", encode)
    with torch.no_grad():
        vae.quant_conv.bias += 1
    assert np.abs(train_text_to_image.encode_pictures(vae, pictures, tmp_path) - first).max() > 0.1
    assert json.loads((tmp_path / "latents.json").read_text())["encoded"] == 32


def test_a_few_steps_make_a_pipeline_folder(folder, vae, tmp_path):
    vae.save_pretrained(tmp_path / "vae")
    config = train_text_to_image.TextToImageConfig(batch=2, word_steps=2)
    pictures = data.load_set(folder, "train")
    latents = train_text_to_image.encode_pictures(vae, pictures, tmp_path)
    training, tokenizer = train_text_to_image.make_training(tmp_path, config, None)
    objective = train_text_to_image.Objective(training, tokenizer, pictures, latents, config, bfloat16=False)
    assert np.isfinite([training.update(objective()) for _ in range(2)]).all()
    train_text_to_image.export(training, tmp_path / "vae")
    size = sum(file.stat().st_size for file in (tmp_path / "model").rglob("*") if file.is_file())
    assert size < 30 * 2**20
    drawn = train_text_to_image.sample_pictures(objective, vae, ["a red dog runs on the beach, flat colours"], steps=2)
    assert drawn.shape == (1, 128, 128, 3)
    again, _ = train_text_to_image.make_training(tmp_path / "again", config, tmp_path / "model")
    for name, module in again.modules.items():
        kept = training.averages[name].state_dict()
        for key, weight in module.state_dict().items():
            torch.testing.assert_close(weight, kept[key].half().float(), msg=f"{name} {key}")


def test_the_figure_weighs_more_the_less_noise_there_is(folder, vae, tmp_path):
    config = train_text_to_image.TextToImageConfig(batch=2, word_steps=2, figure_weight=3.0)
    pictures = data.load_set(folder, "train")
    latents = train_text_to_image.encode_pictures(vae, pictures, tmp_path)
    training, tokenizer = train_text_to_image.make_training(tmp_path, config, None)
    objective = train_text_to_image.Objective(training, tokenizer, pictures, latents, config, bfloat16=False)
    chosen = np.array([0, 0, 0])
    weights = objective.weights(chosen, torch.tensor([0, 500, 999]))
    covered = torch.from_numpy(pictures.mask(chosen[:1])).float()[:, None]
    covered = torch.nn.functional.max_pool2d(covered, 8)[0].bool()
    assert covered.any() and not covered.all()
    assert [w[covered].unique().item() for w in weights] == pytest.approx([3.0, 2.0, 1.002])
    assert all((w[~covered] == 1).all() for w in weights)


@pytest.mark.parametrize("kind", train_control.HINTS)
def test_a_few_steps_make_a_control_of_the_bundled_model(folder, vae, tmp_path, kind):
    """It begins by adding nothing."""
    pictures = data.load_set(folder, "train")
    latents = train_text_to_image.encode_pictures(vae, pictures, tmp_path)
    config, model = train_control.ControlConfig(batch=2), load_model()
    training = train_control.make_training(tmp_path, model, config)
    objective = train_control.Objective(training, model, pictures, latents, kind, config)
    first = training.modules["control"].controlnet_down_blocks[0]
    assert not first.weight.any()
    assert np.isfinite([training.update(objective()) for _ in range(2)]).all()
    assert first.weight.any() and all(weight.grad is None for weight in model.unet.parameters())
    training.averages["control"].half().save_pretrained(tmp_path / "control")
    size = sum(file.stat().st_size for file in (tmp_path / "control").iterdir())
    assert size < 8e6
    hint = torch.from_numpy(objective.hint(pictures, 0))[None]
    HintControl(load_control(tmp_path / "control"), hint).check(torch.zeros(1, 16, 3, 16, 16), model.unet.config)


@pytest.fixture
def trained(tmp_path):
    """Folders of untrained weights: unet and text_encoder, and the autoencoder."""
    model, tokenizer = tmp_path / "trained", text.build_tokenizer(tmp_path / "tokenizer")
    torch.manual_seed(0)
    train_text_to_image.UNet2DConditionModel(**train_text_to_image.UNET_CONFIG).save_pretrained(model / "unet")
    text.build_text_encoder(tokenizer).save_pretrained(model / "text_encoder")
    AutoencoderKL(**train_autoencoder.CONFIG).save_pretrained(tmp_path / "vae")
    return model, tmp_path / "vae"


def packed(monkeypatch, model, vae, output):
    monkeypatch.setattr(sys, "argv", ["pack", "--model", str(model), "--vae", str(vae), "--output", str(output)])
    pack.main()


def test_trained_weights_are_packed_as_shipped(trained, tmp_path, monkeypatch):
    output = tmp_path / "packed"
    output.mkdir()
    (output / "old").touch()
    packed(monkeypatch, *trained, output)
    assert not (output / "old").exists()
    assert 5e6 < pack.folder_bytes(output) < pack.MOST_BYTES
    model = load_model(output)
    before_packing = AutoencoderKL.from_pretrained(trained[1])
    for before, after in zip(before_packing.parameters(), model.vae.parameters(), strict=True):
        torch.testing.assert_close(after, before.half().float(), rtol=0, atol=0)
    assert model.scheduler.config.rescale_betas_zero_snr and model.image_size == world.SIZE
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    bundled = ASSETS / "demo-model"
    assert names == {str(path.relative_to(bundled)) for path in bundled.rglob("*") if path.is_file()}
    assert (
        "Licence" in (output / "README.md").read_text()
        and "_name_or_path" not in (output / "unet/config.json").read_text()
    )


@pytest.mark.parametrize("lacks", ["unet", "text_encoder", "vae"])
def test_failed_packing_leaves_the_output_folder_as_it_was(trained, tmp_path, monkeypatch, lacks):
    shutil.rmtree(trained[1] if lacks == "vae" else trained[0] / lacks)
    output = tmp_path / "packed"
    output.mkdir()
    (output / "old").touch()
    with pytest.raises(OSError):
        packed(monkeypatch, *trained, output)
    assert (output / "old").exists()


def test_an_output_that_holds_the_weights_is_refused(trained, monkeypatch):
    with pytest.raises(SystemExit):
        packed(monkeypatch, *trained, trained[0].parent)
    assert (trained[0] / "unet").is_dir()


def test_larger_weights_than_ship_are_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "MOST_BYTES", 1e6)
    with pytest.raises(ValueError, match="at most 1 MB ship"):
        packed(monkeypatch, *trained, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_the_bundled_clip_is_the_one_that_is_drawn(tmp_path):
    make_clip.write_clip(tmp_path)
    for name in ("demo-clip.json", "demo-clip-masks.png", "demo-clip-2.json"):
        assert (tmp_path / name).read_bytes() == (ASSETS / name).read_bytes()
