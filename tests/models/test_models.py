"""Base models from disk, and the conversions between pixels, prompts and latents."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from tav_core import load_model
from tav_core.demo import world
from tav_core.models.base import ASSETS
from tav_core.models.codec import decode_latents, encode_frames, encode_prompts
from tav_core.models.folder import ModelError
from tests.clips import clip_of


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "a model, größer"
    shutil.copytree(ASSETS / "demo-model", copy)
    return copy


def test_bundled_model_is_small_and_complete(model):
    size = sum(f.stat().st_size for f in (ASSETS / "demo-model").rglob("*"))
    assert 5e6 < size < 30e6
    assert model.image_size == 128
    assert model.scheduler.config.prediction_type == "v_prediction"
    assert not any(p.requires_grad for p in model.unet.parameters())
    assert next(model.unet.parameters()).dtype == torch.float32


def test_the_text_encoder_has_the_tensor_names_of_transformers_4():
    with safe_open(ASSETS / "demo-model" / "text_encoder" / "model.safetensors", "pt") as file:
        assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118


def test_a_copy_of_the_folder_loads_the_same_weights(model, folder):
    other = load_model(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.unet.parameters(), other.unet.parameters(), strict=True))


def test_other_dtypes(folder):
    assert next(load_model(folder, dtype=torch.bfloat16).unet.parameters()).dtype == torch.bfloat16


def test_prompts(model):
    prompts = ["a red dog", "", "日本語 🦀"]
    embeddings = encode_prompts(model, prompts)
    assert embeddings.shape == (3, 77, model.unet.config.cross_attention_dim)
    assert embeddings.isfinite().all()
    ids = model.tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    torch.testing.assert_close(embeddings, model.text_encoder(ids).last_hidden_state)


def test_long_prompts_are_encoded_in_chunks_of_75_tokens(model):
    words = ["dog", "beach", "red", "runs"] * 50  # a token each
    embedding = encode_prompts(model, [" ".join(words)])
    assert embedding.shape == (1, 3 * 77, model.unet.config.cross_attention_dim)
    for chunk in range(3):
        part = encode_prompts(model, [" ".join(words[75 * chunk : 75 * (chunk + 1)])])
        torch.testing.assert_close(embedding[:, 77 * chunk : 77 * (chunk + 1)], part)
    assert encode_prompts(model, [" ".join(words[:75])]).shape[1] == 77
    assert encode_prompts(model, [" ".join(words[:76])]).shape[1] == 2 * 77


def test_prompts_of_unlike_length_are_repeated_and_act_as_before(model):
    long = " ".join(["dog"] * 80)
    both = encode_prompts(model, ["a red dog", long])
    alone = encode_prompts(model, ["a red dog"])
    torch.testing.assert_close(both[:1], alone.repeat(1, 2, 1))
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    predictions = [model.unet(noise, 500, text).sample for text in (both[:1], alone)]
    torch.testing.assert_close(*predictions, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="256 fit beside each other: shorten them, or encode them one by one"):
        encode_prompts(model, [" ".join(["dog"] * 75 * count) for count in (7, 11, 13)])


def test_clips_are_decoded_one_by_one(model):
    with pytest.raises(ValueError, match="number of clips to decode must be a whole number from 1 to 1"):
        decode_latents(model, torch.zeros(2, 16, 1, 4, 4))


def test_brackets_are_literal(model):
    literal = model.tokenizer("a (red:1.5) dog", padding="max_length", max_length=77, return_tensors="pt").input_ids
    embedding = encode_prompts(model, ["a (red:1.5) dog"])
    torch.testing.assert_close(embedding, model.text_encoder(literal).last_hidden_state)
    assert not torch.equal(embedding, encode_prompts(model, ["a red dog"]))


def test_each_word_of_the_world_is_one_token(model):
    for word in world.caption_words():
        assert len(model.tokenizer(word).input_ids) == 3, word


def test_latents_have_unit_scale_and_decode_to_the_frames(model):
    frames = torch.cat([clip_of(1, place=place) for place in world.VOCABULARY["place"]])
    latents = encode_frames(model, frames)
    assert latents.shape == (1, 16, 6, 16, 16)
    assert 0.7 < latents.std() < 1.4
    decoded = decode_latents(model, latents)
    assert decoded.shape == frames.shape
    assert -10 * (decoded - frames).square().mean().log10() > 32  # dB


def test_latents_are_the_mode_of_the_posterior(model):
    frames = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    before = torch.random.get_rng_state()
    latents = encode_frames(model, frames)
    with torch.no_grad():
        posterior = model.vae.encode(frames.permute(0, 3, 1, 2) * 2 - 1).latent_dist
    mode = posterior.mode() * model.vae.config.scaling_factor
    assert torch.allclose(latents[0].transpose(0, 1), mode, atol=1e-5)
    assert posterior.std.mean() > 1e-3  # a draw would have been something else
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("shape", "words"), [((2, 128, 128), "shape"), ((0, 128, 128, 3), "one frame"), ((1, 100, 128, 3), "128 x 96")]
)
def test_wrong_frames_raise(model, shape, words):
    with pytest.raises(ValueError, match=words):
        encode_frames(model, torch.zeros(shape))


@pytest.mark.parametrize("size", [None, [64, 64], 0])
def test_a_model_without_a_sample_size(model, size, monkeypatch):
    config = SimpleNamespace(sample_size=size)
    with pytest.raises(ModelError, match="sample_size in the unet's config.json must be a whole number"):
        _ = replace(model, unet=SimpleNamespace(config=config)).image_size


def test_a_missing_folder_raises(tmp_path):
    with pytest.raises(ModelError, match="no model folder at .*nowhere"):
        load_model(tmp_path / "nowhere")


def test_a_missing_part_raises(folder):
    shutil.rmtree(folder / "vae")
    with pytest.raises(ModelError, match="lacks vae"):
        load_model(folder)


def test_pickled_weights_are_never_opened(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="Pickled .bin weights are never opened"):
        load_model(folder)


def test_truncated_weights_raise(folder):
    weights = folder / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="text_encoder .* cannot be read"):
        load_model(folder)


def test_a_broken_config_raises(folder):
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(ModelError, match="unet .* cannot be read"):
        load_model(folder)


def test_a_type_is_given_by_itself_or_by_its_name(model):
    named, typed = load_model(dtype="float16"), load_model(dtype=torch.float16)
    for part in ("unet", "vae", "text_encoder"):
        assert {p.dtype for p in getattr(named, part).parameters()} == {torch.float16}
        assert {p.dtype for p in getattr(typed, part).parameters()} == {torch.float16}


@pytest.mark.parametrize("dtype", ["half precision", "int8", torch.int64, 16])
def test_a_type_to_compute_in_is_needed(dtype):
    with pytest.raises(ValueError, match="dtype must be one of"):
        load_model(dtype=dtype)


def test_a_device_that_is_not_there_raises_before_the_model_is_read(monkeypatch):
    monkeypatch.setattr("tav_core.models.base.read_network", lambda *_: pytest.fail("the model was read"))
    with pytest.raises(ValueError, match="cannot be used here"):
        load_model(device="hpu")
