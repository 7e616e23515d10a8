"""Models as they lie on disk: variants, shards, single-file checkpoints, and other kinds, which are refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from tav_core import inflate, load_model, trainable_parameters
from tav_core.models.base import ASSETS, BaseModel
from tav_core.models.codec import encode_prompts
from tav_core.models.folder import ModelError
from tests.conftest import EPSILON, SD1, SD2

WORDS = 652  # that the bundled tokenizer knows
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 1, "vocab_size": WORDS}
TEXT |= {"bos_token_id": WORDS - 2, "eos_token_id": WORDS - 1, "projection_dim": 64}
UNETS = {
    "sd1": SD1 | {"block_out_channels": (32, 64), "attention_head_dim": 8, "norm_num_groups": 32},
    "sd2": SD2 | {"block_out_channels": (64, 64, 64), "attention_head_dim": (1, 1, 1), "norm_num_groups": 32},
}


def make_folder(folder: Path, family: str) -> Path:
    """A small model with random weights in diffusers' layout, with the shapes that both layouts can express."""
    torch.manual_seed(5)
    is_sd2 = family == "sd2"
    text = TEXT | {"hidden_act": "gelu" if is_sd2 else "quick_gelu", "num_hidden_layers": 2}
    CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(folder / "text_encoder")
    UNet2DConditionModel(**UNETS[family] | {"cross_attention_dim": 64}).save_pretrained(folder / "unet")
    vae = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(32, 64), sample_size=8, **vae).save_pretrained(folder / "vae")
    DDIMScheduler(**EPSILON).save_pretrained(folder / "scheduler")
    shutil.copytree(ASSETS / "demo-model" / "tokenizer", folder / "tokenizer")
    return folder


def ldm_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder under the names of the original checkpoints, written out by hand."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder" / "model.safetensors")
    levels = len(json.loads((folder / "unet" / "config.json").read_text())["block_out_channels"])
    tensors = {f"model.diffusion_model.{unet_name(key, levels)}": tensor for key, tensor in unet.items()}
    tensors |= {f"first_stage_model.{vae_name(key)}": vae_shape(key, tensor) for key, tensor in vae.items()}
    return tensors | text_tensors(
        {key.removeprefix("text_model."): tensor for key, tensor in text.items()}, levels == 3
    )


RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
TOP = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
       "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip


def unet_name(key: str, levels: int) -> str:
    """With one layer a level: two blocks a level on the way down, the second of which samples down; two up."""
    for name, old in TOP.items():
        if key.startswith(name + "."):
            return key.replace(name, old, 1)
    side, *rest = key.split(".")
    if side == "mid_block":
        kind, index, *tail = rest
        return ".".join(["middle_block", str(2 * int(index)) if kind == "resnets" else "1", *_inner(kind, tail)])
    level, kind, index, *tail = rest
    if side == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{2 * int(level) + 2}.0.op.{tail[-1]}"
        return ".".join([f"input_blocks.{2 * int(level) + 1}", "0" if kind == "resnets" else "1", *_inner(kind, tail)])
    block = 2 * int(level) + int(index)
    if kind == "upsamplers":
        has_attention = int(level) > 0  # as in the shapes of these tests: the lowest level has none
        return f"output_blocks.{2 * int(level) + 1}.{2 if has_attention else 1}.conv.{tail[-1]}"
    return ".".join([f"output_blocks.{block}", "0" if kind == "resnets" else "1", *_inner(kind, tail)])


def _inner(kind: str, tail: list[str]) -> list[str]:
    return [RESNET[tail[0]], *tail[1:]] if kind == "resnets" else tail


ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def vae_name(key: str) -> str:
    side, *rest = key.split(".")
    if side not in ("encoder", "decoder"):
        return key
    if rest[0] == "mid_block":
        number = int(rest[2])
        if rest[1] == "resnets":
            return ".".join([side, "mid", f"block_{number + 1}", *rest[3:]])
        tail = ".".join(rest[3:-1])
        return f"{side}.mid.attn_1.{ATTENTION[tail]}.{rest[-1]}"
    if rest[0] in ("down_blocks", "up_blocks"):
        level = int(rest[1]) if rest[0] == "down_blocks" else 1 - int(rest[1])
        way = "down" if rest[0] == "down_blocks" else "up"
        if rest[2] == "resnets":
            tail = ["nin_shortcut" if part == "conv_shortcut" else part for part in rest[4:]]
            return ".".join([side, way, str(level), "block", rest[3], *tail])
        return f"{side}.{way}.{level}.{way}sample.conv.{rest[-1]}"
    return ".".join([side, {"conv_norm_out": "norm_out"}.get(rest[0], rest[0]), *rest[1:]])


def vae_shape(key: str, tensor: Tensor) -> Tensor:
    """Linear layers of the attention were convolutions."""
    return tensor[..., None, None] if "attentions" in key and tensor.ndim == 2 else tensor


OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip


def text_tensors(text: dict[str, Tensor], open_clip: bool) -> dict[str, Tensor]:
    if not open_clip:
        return {f"cond_stage_model.transformer.text_model.{key}": tensor for key, tensor in text.items()}
    prefix = "cond_stage_model.model."
    named = open_clip_tensors(text, prefix, 2)
    # The last layer, which Stable Diffusion 2 does not use.
    named |= {
        key.replace("resblocks.1.", "resblocks.2."): tensor * 0 + 9
        for key, tensor in named.items()
        if "resblocks.1." in key
    }
    return named | {prefix + "text_projection": torch.eye(64)}


def open_clip_tensors(text: dict[str, Tensor], prefix: str, layers: int) -> dict[str, Tensor]:
    named = {}
    for layer in range(layers):
        old, new = f"encoder.layers.{layer}.", f"{prefix}transformer.resblocks.{layer}."
        for ours, theirs in OPEN_CLIP.items():
            for kind in ("weight", "bias"):
                named[f"{new}{theirs}.{kind}"] = text[f"{old}{ours}.{kind}"]
        for kind in ("weight", "bias"):
            parts = [text[f"{old}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            named[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
    named[prefix + "token_embedding.weight"] = text["embeddings.token_embedding.weight"]
    named[prefix + "positional_embedding"] = text["embeddings.position_embedding.weight"]
    named[prefix + "ln_final.weight"] = text["final_layer_norm.weight"]
    named[prefix + "ln_final.bias"] = text["final_layer_norm.bias"]
    return named


def make_single_file(folder: Path, path: Path, dtype: torch.dtype = torch.float32, **more: Tensor) -> Path:
    tensors = {key: tensor.to(dtype).contiguous().clone() for key, tensor in ldm_tensors(folder).items()}
    save_file(tensors | more, path)
    return path


def assert_same(one: BaseModel, other: BaseModel, atol: float = 1e-5) -> None:
    """The same predictions, latents and embeddings."""
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    words = [encode_prompts(model, ["a pink star"]).float() for model in (one, other)]
    torch.testing.assert_close(*words, atol=atol, rtol=1e-3)
    with torch.no_grad():
        predictions = [model.unet.float()(noise, 500, words[0]).sample for model in (one, other)]
        torch.testing.assert_close(*predictions, atol=atol, rtol=1e-3)
        torch.testing.assert_close(*[m.vae.float().decode(noise).sample for m in (one, other)], atol=atol, rtol=1e-3)
        picture = noise[:, :3].tanh()
        means = [model.vae.encode(picture).latent_dist.mean for model in (one, other)]
        torch.testing.assert_close(*means, atol=atol, rtol=1e-3)


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / request.param, request.param)


def test_single_file(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    ema = {f"model_ema.diffusion_modelinput_blocks{index}": torch.zeros(1) for index in range(120)}
    path = make_single_file(folder, tmp_path / "model.safetensors", **ema)
    assert_same(load_model(folder), load_model(path))


def test_single_file_in_float16(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "tokenizer", tmp_path / "model" / "tokenizer")
    path = make_single_file(folder, tmp_path / "model.safetensors", torch.float16)
    model = load_model(path, dtype="float16")
    assert {model.unet.dtype, model.vae.dtype, model.text_encoder.dtype} == {torch.float16}
    assert_same(load_model(folder), model, atol=0.02)
    assert model.scheduler.config.beta_schedule == "scaled_linear"


def test_velocity_prediction_of_a_single_file(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    path = make_single_file(folder, tmp_path / "a.safetensors", v_pred=torch.zeros(0), ztsnr=torch.zeros(0))
    config = load_model(path).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)


def test_a_single_file_without_tokenizer(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tav_core.models.single_file._PACKAGES", ())
    path = make_single_file(folder, tmp_path / "a.safetensors")
    with pytest.raises(
        ModelError, match="a.safetensors holds no tokenizer: put the folder tokenizer .*beside it, or pip"
    ):
        load_model(path)


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "bin"])
def test_pickled_checkpoints_are_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model.{suffix}").write_bytes(b"PK")
    with pytest.raises(ModelError, match=f"model.{suffix} is pickled, and opening it could run code, so it is never"):
        load_model(tmp_path / f"model.{suffix}")


@pytest.mark.parametrize(
    "key, shape, kind",
    [
        ("model.diffusion_model.joint_blocks.0.x", (1,), "Stable Diffusion 3 .flow matching"),
        ("model.diffusion_model.double_blocks.0.x", (1,), "Flux, or a model like it .flow matching"),
        ("clip_txt_pooled_mapper.weight", (1,), "Stable Cascade"),
        ("conditioner.embedders.0.model.ln_final.weight", (1,), "the SDXL refiner"),
        ("model.diffusion_model.input_blocks.0.0.weight", (8, 9, 3, 3), "an inpainting model"),
        ("scaled_fp8", (2,), "scaled fp8"),
    ],
)
def test_other_single_files_are_refused_by_name(tmp_path: Path, key: str, shape: tuple, kind: str) -> None:
    save_file({key: torch.zeros(shape)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=f"other.safetensors is {kind}.*, which Tune-A-Video does not take"):
        load_model(tmp_path / "other.safetensors")


def test_a_single_file_without_its_vae(folder: Path, tmp_path: Path) -> None:
    tensors = {key: tensor for key, tensor in ldm_tensors(folder).items() if not key.startswith("first_stage")}
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="a.safetensors lacks the VAE of Stable Diffusion: give a whole checkpoint"):
        load_model(tmp_path / "a.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("shards", [None, "200KB"])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_variants_and_shards(folder: Path, tmp_path: Path, variant: str | None, shards: str | None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    model = load_model(folder)
    size = {"max_shard_size": shards} if shards else {}
    for part in ("unet", "vae", "text_encoder"):
        shutil.rmtree(copy / part)
        network = getattr(model, part)
        network.half() if variant else network
        network.save_pretrained(copy / part, variant=variant, **size)
    names = [file.name for file in (copy / "unet").glob("*.safetensors")]
    assert all("fp16" in name for name in names) == bool(variant) and (len(names) > 1) == bool(shards)
    assert_same(load_model(folder), load_model(copy), atol=0.02 if variant else 1e-6)


@pytest.mark.parametrize(
    "file, change, kind",
    [
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "a flow-matching model",
        ),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow_prediction"}, "a flow-matching model"),
        ("model_index.json", {"_class_name": "StableCascadeDecoderPipeline"}, "a cascade"),
        ("model_index.json", {"_class_name": "StableDiffusionInpaintPipeline"}, "an inpainting model"),
        ("unet/config.json", {"in_channels": 9}, "an inpainting model .9 input channels"),
        ("unet/config.json", {"projection_class_embeddings_input_dim": 2560}, "the SDXL refiner"),
    ],
)
def test_other_folders_are_refused_by_name(folder: Path, tmp_path: Path, file: str, change: dict, kind: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | change))
    with pytest.raises(ModelError, match=f"copy is {kind}.*, which Tune-A-Video does not take: give one of Stable"):
        load_model(tmp_path / "copy")


def make_published(folder: Path, copy: Path, shards: bool = False) -> tuple[Path, dict[str, Tensor]]:
    """A folder as the published implementation saves it, in safetensors, and its temporal attention."""
    shutil.copytree(folder, copy)
    video_unet = inflate(load_model(folder).unet)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainable_parameters(video_unet).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    state = {name: tensor.contiguous() for name, tensor in video_unet.unet.state_dict().items()}
    part = copy / "unet"
    (part / "diffusion_pytorch_model.safetensors").unlink()
    names = sorted(state)
    pieces = {"diffusion_pytorch_model.safetensors": names}
    if shards:
        half = len(names) // 2
        pieces = {"a-00001-of-00002.safetensors": names[:half], "a-00002-of-00002.safetensors": names[half:]}
        index = {"weight_map": {name: file for file, part_names in pieces.items() for name in part_names}}
        (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    for file, part_names in pieces.items():
        save_file({name: state[name] for name in part_names}, part / file)
    config = json.loads((part / "config.json").read_text())
    kinds = {key: [kind.replace("2D", "3D") for kind in config[key]] for key in ("down_block_types", "up_block_types")}
    config |= kinds | {"_class_name": "UNet3DConditionModel", "mid_block_type": "UNetMidBlock3DCrossAttn"}
    (part / "config.json").write_text(json.dumps(config))
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "TuneAVideoPipeline"}))
    return copy, state


@pytest.mark.parametrize("shards", [False, True])
def test_published_folders(folder: Path, tmp_path: Path, shards: bool) -> None:
    path, state = make_published(folder, tmp_path / "tuned", shards)
    video_unet = inflate(load_model(path).unet)
    assert video_unet.unet.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in video_unet.unet.state_dict().items())
    assert video_unet.adapter.is_tuned()
    video_unet.adapter.scale = 0.5
    video_unet.adapter.scale = 1.0
    assert all(torch.equal(tensor, state[name]) for name, tensor in video_unet.unet.state_dict().items())


def test_a_published_folder_without_a_tensor(folder: Path, tmp_path: Path) -> None:
    path, state = make_published(folder, tmp_path / "tuned")
    file = path / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor for name, tensor in state.items() if name != "conv_in.bias"}, file)
    with pytest.raises(ModelError, match="The unet of the model .* the weights lack 1 tensors .* such as conv_in.bias"):
        load_model(path)
    lost = next(name for name in state if "attn_temp.to_q" in name)
    save_file({name: tensor for name, tensor in state.items() if name != lost}, file)
    with pytest.raises(ValueError, match=f"other tensors of the temporal attention than it needs, such as {lost}"):
        inflate(load_model(path).unet)
