"""SDXL: what it takes beside the prompt, through the library. The references are stock diffusers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from tav_core import (
    ClipEditor,
    Conditioning,
    InversionConfig,
    SamplingConfig,
    Store,
    TuningConfig,
    encode_prompts,
    estimate_memory,
    inflate,
    invert,
    load_model,
    load_tuned,
    save_tuned,
)
from tav_core.memory.tracker import MemoryTracker
from tav_core.models.folder import ModelError
from tav_core.store.keys import result_key
from tests.conftest import draw
from tests.models.test_single_file import TOP, _inner, open_clip_tensors, vae_name, vae_shape
from tests.sdxl import POOLED, UNET, WIDTHS, make_folder, make_pipeline, without

FRAMES = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0))
ADDED = {"text_embeds": draw(2, POOLED, seed=3), "time_ids": torch.tensor([[64, 96, 0, 8, 64, 96], [32.0] * 6])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture
def unet() -> UNet2DConditionModel:
    return make_pipeline().unet


@pytest.mark.parametrize("frames", [1, 3])
def test_like_frames_equal_stock_diffusers(unet: UNet2DConditionModel, frames: int) -> None:
    """Two clips, each with its own prompt, pooled text and sizes."""
    image, text, timesteps = draw(2, 4, 8, 12), draw(2, 7, sum(WIDTHS), seed=1), torch.tensor([701, 20])
    with torch.no_grad():
        expected = unet(image, timesteps, text, added_cond_kwargs=ADDED).sample
        swapped = {**ADDED, "time_ids": ADDED["time_ids"].flip(1)}
        assert (unet(image, timesteps, text, added_cond_kwargs=swapped).sample - expected).abs().max() > 1e-4
        clip = image[:, :, None].expand(-1, -1, frames, -1, -1)
        got = inflate(unet)(clip, timesteps, text, added_cond_kwargs=ADDED)
    for frame in got.unbind(2):
        assert (frame - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_prompts_are_encoded_as_in_diffusers(folder: Path) -> None:
    prompts = ["a red dog runs on the beach", ""]
    got = encode_prompts(load_model(folder), prompts, (64, 96))
    text, _, pooled, _ = make_pipeline().encode_prompt(prompts, do_classifier_free_guidance=False)
    assert isinstance(got, Conditioning) and got.text.shape == (2, 77, sum(WIDTHS))
    torch.testing.assert_close(got.text, text)
    torch.testing.assert_close(got.added["text_embeds"], pooled)
    assert got.added["time_ids"].tolist() == [[64, 96, 0, 0, 64, 96]] * 2


def test_a_long_prompt_has_the_pooled_text_of_its_first_chunk(folder: Path) -> None:
    model = load_model(folder)
    words = ["dog", "red", "beach"] * 30
    got, first = (encode_prompts(model, [" ".join(words[:count])]) for count in (90, 75))
    assert got.text.shape[1] == 2 * 77
    torch.testing.assert_close(got.added["text_embeds"], first.added["text_embeds"])
    torch.testing.assert_close(got.text[:, :77], first.text)


@pytest.mark.slow
def test_the_whole_path(folder: Path, tmp_path: Path) -> None:
    """Tuned, inverted, edited with guidance, saved, loaded; the store finds tuning and inversion again."""
    steps = dict(num_inference_steps=4)
    sampling, inversion = SamplingConfig(**steps, guidance_scale=3.0), InversionConfig(**steps)

    def run(store: Store) -> tuple[ClipEditor, torch.Tensor, int]:
        editor = ClipEditor(load_model(folder), FRAMES, "a red dog", store=store)
        updates = len(list(editor.tune(TuningConfig(steps=3, learning_rate=1e-3))))
        for _ in editor.invert(inversion):
            pass
        *_, last = editor.edit("a blue dog", sampling, start_from="inversion")
        return editor, last.latents, updates

    editor, edit, updates = run(Store(tmp_path / "store"))
    _, again, repeated = run(Store(tmp_path / "store"))
    assert (updates, repeated) == (3, 0) and torch.equal(edit, again)
    save_tuned(editor.video_unet, tmp_path / "dog.safetensors")
    other = inflate(load_model(folder).unet)
    load_tuned(other, tmp_path / "dog.safetensors")
    given = draw(1, 4, 3, 8, 8), 500, editor._embed("a red dog")
    outputs = [
        unet(given[0], given[1], given[2].text, added_cond_kwargs=given[2].added) for unet in (editor.video_unet, other)
    ]
    assert torch.equal(*outputs)


def test_sizes_change_a_result_and_its_key(folder: Path) -> None:
    model = load_model(folder)
    video_unet, latents = inflate(model.unet), draw(1, 4, 2, 8, 8)
    config, ends, keys = InversionConfig(num_inference_steps=2), [], set()
    for size in ((64, 64), (64, 128)):
        prompt = encode_prompts(model, [""], size)
        *_, last = invert(video_unet, latents, prompt, model.scheduler, config)
        ends.append(last.latents)
        keys.add(result_key(video_unet, latents, prompt, model.scheduler, config))
    assert not torch.equal(*ends) and len(keys) == 2


@pytest.mark.slow
def test_the_plan_knows_what_is_added(folder: Path) -> None:
    model = load_model(folder)
    video_unet = inflate(model.unet)
    latents, prompt = draw(1, 4, 3, 8, 8), encode_prompts(model, [""])
    planned = estimate_memory(video_unet, SamplingConfig(guidance_scale=1.0), num_frames=3, height=8, width=8)
    with MemoryTracker() as tracker, torch.no_grad():
        video_unet(latents, 500, prompt.text, added_cond_kwargs=prompt.added)
    assert abs(planned.activations / tracker.peak - 1) < 0.05


@pytest.mark.parametrize("lacking", [{}, {"text_embeds": ADDED["text_embeds"]}])
def test_a_prompt_without_its_additions_is_refused(unet: UNet2DConditionModel, lacking: dict) -> None:
    with pytest.raises(ValueError, match="SDXL takes text_embeds and time_ids beside the prompt"):
        inflate(unet)(draw(2, 4, 1, 8, 8), 5, draw(2, 7, sum(WIDTHS)), added_cond_kwargs=lacking)


def test_additions_of_another_batch_are_refused(unet: UNet2DConditionModel) -> None:
    with pytest.raises(ValueError, match=r"text_embeds are \(clips, 20\), here 1 clips, got \(2, 20\)"):
        inflate(unet)(draw(1, 4, 1, 8, 8), 5, draw(1, 7, sum(WIDTHS)), added_cond_kwargs=ADDED)


def test_stable_diffusion_1_takes_no_additions() -> None:
    with pytest.raises(ValueError, match="Only SDXL takes text_embeds, time_ids"):
        inflate(load_model().unet)(draw(2, 16, 1, 8, 8), 5, draw(2, 7, 64), added_cond_kwargs=ADDED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(projection_class_embeddings_input_dim=80, cross_attention_dim=40), "refiner"),
        (dict(addition_embed_type="text", projection_class_embeddings_input_dim=64), "addition_embed_type='text'"),
        (dict(reverse_transformer_layers_per_block=(3, 2, 1)), "distilled SDXL"),
    ],
)
def test_kin_of_sdxl_is_refused_by_name(changes: dict, message: str) -> None:
    model = UNet2DConditionModel(**UNET | changes)
    with pytest.raises(ValueError, match=message):
        inflate(model)


@pytest.mark.parametrize("part", ["text_encoder_2", "tokenizer_2"])
def test_a_folder_that_lacks_a_second_part_is_refused(tmp_path: Path, part: str) -> None:
    with pytest.raises(ModelError, match=f"lacks {part}"):
        load_model(without(make_folder(tmp_path / "model"), part))


def test_the_autoencoder_of_sdxl_stays_float32(folder: Path) -> None:
    model = load_model(folder, dtype="float16")
    assert model.vae.dtype == torch.float32
    assert {model.unet.dtype, model.text_encoder.dtype, model.text_encoder_2.dtype} == {torch.float16}


def test_zero_snr_velocity_is_recognised(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    scheduler = load_model(folder).scheduler
    assert scheduler.config.prediction_type == "v_prediction" and scheduler.alphas_cumprod[-1] < 1e-6


WIDE = dict(block_out_channels=(64, 64, 128), attention_head_dim=(1, 1, 2), norm_num_groups=32, sample_size=128)


@pytest.fixture(scope="module")
def single_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of the sizes that both layouts can express, and the same as a checkpoint in one file."""
    folder, file = tmp_path_factory.mktemp("wide"), tmp_path_factory.mktemp("file") / "xl.safetensors"
    made = dict(widths=(64, 128), hidden_act=("quick_gelu", "gelu"), pooled=32)
    make_pipeline(unet=WIDE, vae=dict(block_out_channels=(32, 64)), **made).save_pretrained(folder)
    save_file({key: tensor.contiguous().clone() for key, tensor in ldm_tensors(folder).items()}, file)
    return folder, file


def ldm_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a folder under the names of the original checkpoints."""
    unet, vae, first, second = (
        load_file(next((folder / part).glob("*.safetensors")))
        for part in ("unet", "vae", "text_encoder", "text_encoder_2")
    )
    tensors = {f"model.diffusion_model.{ldm_name(key, 3, 2)}": tensor for key, tensor in unet.items()}
    tensors |= {f"first_stage_model.{vae_name(key)}": vae_shape(key, tensor) for key, tensor in vae.items()}
    tensors |= {f"conditioner.embedders.0.transformer.{key}": tensor for key, tensor in first.items()}
    prefix, plain = "conditioner.embedders.1.model.", {key.removeprefix("text_model."): t for key, t in second.items()}
    projection = {
        prefix + "text_projection": second["text_projection.weight"].T,
        prefix + "logit_scale": torch.ones(()),
    }
    return tensors | open_clip_tensors(plain, prefix, 3) | projection


def ldm_name(key: str, levels: int, layers: int) -> str:
    """Of a UNet whose first level has no attention, on the way up its last one."""
    for name, old in {
        **TOP,
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }.items():
        if key.startswith(name + "."):
            return key.replace(name, old, 1)
    side, *rest = key.split(".")
    if side == "mid_block":
        kind, index, *tail = rest
        return ".".join(["middle_block", str(2 * int(index)) if kind == "resnets" else "1", *_inner(kind, tail)])
    level, kind, index, *tail = int(rest[0]), rest[1], int(rest[2]), *rest[3:]
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (layers + 1)}.0.op.{tail[-1]}"
    if kind == "upsamplers":
        return f"output_blocks.{level * (layers + 1) + layers}.{2 if level < levels - 1 else 1}.conv.{tail[-1]}"
    block = f"input_blocks.{1 + level * (layers + 1) + index}" if side == "down_blocks" else ""
    block = block or f"output_blocks.{level * (layers + 1) + index}"
    return ".".join([block, "0" if kind == "resnets" else "1", *_inner(kind, tail)])


def test_a_checkpoint_in_one_file(single_file: tuple[Path, Path]) -> None:
    folder, file = single_file
    shutil.copytree(folder / "tokenizer", file.with_name("tokenizer"), dirs_exist_ok=True)
    ours, theirs = load_model(file), load_model(folder)
    for key, value in WIDE.items():
        assert tuple(np.atleast_1d(ours.unet.config[key])) == tuple(np.atleast_1d(value)), key
    assert tuple(ours.unet.config.transformer_layers_per_block) == (1, 2, 3)
    prompts = [encode_prompts(model, ["a red dog runs"], (64, 96)) for model in (ours, theirs)]
    for name, tensor in prompts[0].tensors().items():
        torch.testing.assert_close(tensor, prompts[1].tensors()[name])
    given = draw(1, 4, 8, 8), 500, prompts[0].text
    with torch.no_grad():
        outputs = [model.unet(*given, added_cond_kwargs=dict(prompts[0].added)).sample for model in (ours, theirs)]
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*[model.vae.decode(given[0]).sample for model in (ours, theirs)])
    assert ours.vae.config.scaling_factor == 0.13025


def test_a_file_that_lacks_the_second_text_encoder_is_refused(single_file: tuple[Path, Path], tmp_path: Path) -> None:
    tensors = {key: tensor for key, tensor in load_file(single_file[1]).items() if "embedders.1." not in key}
    save_file(tensors, tmp_path / "half.safetensors")
    with pytest.raises(ModelError, match=r"half.safetensors lacks the second text encoder of Stable Diffusion"):
        load_model(tmp_path / "half.safetensors")
