"""A single-file checkpoint of Stable Diffusion 1, 2 or XL (.safetensors): networks, schedule and tokenizer, offline.

Tensors are renamed by the functions with which diffusers loads such files. EMA copies of the UNet are left out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from . import ldm
from .folder import ModelError

_PICKLED = {".ckpt", ".pt", ".pth", ".bin"}
_BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}
_PROBE = ldm.UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_V_PREDICTION_SPREAD = 0.09  # of that tensor: it is wider in Stable Diffusion 2 models that predict v
_MERGES = 49152 - 256 - 2  # of CLIP's byte pairs
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"  # in open-clip-torch and in OpenAI's clip
_VOCABULARY_FILES = ("vocab.json", "merges.txt")  # or tokenizer.json, which transformers 5 alone writes
_PACKAGES = ("open_clip", "clip")
_TEXT_ENCODERS: dict[str, Any] = {  # by the beginnings of their tensors' names; of SDXL two, in this order
    ldm.CLIP: CLIPTextModel,
    ldm.OPEN_CLIP: CLIPTextModel,
    ldm.CLIP_XL: CLIPTextModel,
    ldm.OPEN_CLIP_XL: CLIPTextModelWithProjection,
}


def is_single_file(path: Path) -> bool:
    """Whether a path is that of a checkpoint in one file, also of one that is refused."""
    return path.suffix.lower() in {".safetensors", ".gguf", *_PICKLED}


def read_single_file(path: Path, dtype: torch.dtype) -> dict[str, Any]:
    """The parts of a model by the names of `BaseModel`, on the CPU.

    Arguments:
        path: of the .safetensors file. The tokenizer is read from a folder "tokenizer" beside it, for SDXL the second
            one from "tokenizer_2" if there is one, or from the package open-clip-torch.
        dtype: of the weights.

    Raises:
        ModelError: if the file is pickled, damaged or of another kind of model, or there is no tokenizer.
    """
    if not path.is_file():
        raise ModelError(f"There is no file {path}: check its name.")
    if path.suffix.lower() != ".safetensors":
        why = "is pickled, and opening it could run code" if path.suffix.lower() in _PICKLED else "is quantised"
        raise ModelError(f"{path} {why}, so it is never opened: give the model as .safetensors.")
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            ldm.raise_unless_supported(str(path), shapes)
            needed = (ldm.UNET, ldm.VAE, ldm.CLIP, ldm.OPEN_CLIP, ldm.CLIP_XL, ldm.OPEN_CLIP_XL)
            state = {key: file.get_tensor(key) for key in shapes if key.startswith(needed)}
            marks = {key for key in shapes if key in ("v_pred", "ztsnr")}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or no .safetensors file ({error}): copy it again.") from error
    try:
        parts = _networks(state, shapes, dtype)
    except (KeyError, ValueError, IndexError, StopIteration, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path} is no complete checkpoint of Stable Diffusion 1, 2 or XL ({reason}).") from error
    scheduler = DDIMScheduler(**_BETAS, steps_offset=1, set_alpha_to_one=False, **_prediction(state, marks))
    if scheduler.config.prediction_type == "v_prediction" and not ldm.is_xl(shapes):
        parts["unet"].register_to_config(sample_size=96)
    parts["tokenizer"] = find_tokenizer(path, is_open_clip=any(key.startswith(ldm.OPEN_CLIP) for key in shapes))
    if ldm.is_xl(shapes):
        parts["tokenizer_2"] = find_tokenizer(path, is_open_clip=True, name="tokenizer_2")
    return {**parts, "scheduler": scheduler}


def _prediction(state: dict[str, Tensor], marks: set[str]) -> dict[str, Any]:
    """What the model predicts, from marks of its trainer, or as ComfyUI tells Stable Diffusion 2.1 from its base."""
    spread = state[_PROBE].float().std() if _PROBE in state and any(k.startswith(ldm.OPEN_CLIP) for k in state) else 0
    velocity = "v_pred" in marks or bool(spread > _V_PREDICTION_SPREAD)
    return {
        "prediction_type": "v_prediction" if velocity else "epsilon",
        "rescale_betas_zero_snr": "ztsnr" in marks,
    }


def _networks(state: dict[str, Tensor], shapes: ldm.Shapes, dtype: torch.dtype) -> dict[str, Any]:
    unet_config, vae_config = ldm.unet_config(shapes), ldm.vae_config(shapes)
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**unet_config), AutoencoderKL(**vae_config)
    unet_state = single_file_utils.convert_ldm_unet_checkpoint(state, unet.config)
    vae_state = single_file_utils.convert_ldm_vae_checkpoint(state, vae.config)
    parts: dict[str, Any] = {"unet": _filled(unet, unet_state, dtype), "vae": _filled(vae, vae_state, dtype)}
    prefixes = [prefix for prefix in _TEXT_ENCODERS if any(key.startswith(prefix) for key in shapes)]
    for name, prefix in zip(("text_encoder", "text_encoder_2"), prefixes, strict=False):
        encoder = _TEXT_ENCODERS[prefix](
            CLIPTextConfig(**ldm.text_config(shapes, prefix))
        )  # some tensors are in no file
        parts[name] = _filled(encoder, _text_state(encoder, state, shapes, prefix), dtype)
    return parts


def _text_state(model: nn.Module, state: dict[str, Tensor], shapes: ldm.Shapes, prefix: str) -> dict[str, Tensor]:
    if prefix in (ldm.OPEN_CLIP, ldm.OPEN_CLIP_XL):
        renamed = single_file_utils.convert_open_clip_checkpoint(model, state, prefix=prefix)
    else:
        prefix = ldm.clip_prefix(shapes, prefix)
        renamed = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    names = set(model.state_dict())  # with "text_model." in transformers 4, without it in some of 5
    plain = {key.removeprefix("text_model."): tensor for key, tensor in renamed.items()}
    known = {
        name: plain[name.removeprefix("text_model.")] for name in names if name.removeprefix("text_model.") in plain
    }
    return known


def _filled(network: nn.Module, state: dict[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Load all weights.

    Raises:
        RuntimeError: if one is missing or has another shape.
    """
    converted = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    missing = [key for key in network.load_state_dict(converted, strict=False, assign=True).missing_keys
               if "position_ids" not in key]  # fmt: skip
    if missing:
        raise RuntimeError(f"it lacks {len(missing)} tensors, such as {missing[0]}")
    return network.to(dtype)


def find_tokenizer(path: Path, is_open_clip: bool, name: str = "tokenizer") -> CLIPTokenizer:
    """CLIP's tokenizer from a folder beside a checkpoint, or from a package that has its vocabulary.

    Arguments:
        is_open_clip: whether prompts are padded with "!", as in Stable Diffusion 2.
        name: of the folder; without one of SDXL's second name the first one's vocabulary serves, which is the same.

    Raises:
        ModelError: if there is none.
    """
    padding = {"pad_token": "!"} if is_open_clip else {}
    beside = [folder / each for each in (name, "tokenizer") for folder in (path.with_suffix(""), path.parent)]
    for folder in (*beside, path.parent):
        if all((folder / file).is_file() for file in _VOCABULARY_FILES) or (folder / "tokenizer.json").is_file():
            stated = {} if folder.name == name and (folder / "tokenizer_config.json").is_file() else padding
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True, **stated)
    for package in _PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.origin and (file := Path(spec.origin).with_name(_VOCABULARY)).is_file():
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                return _tokenizer_of(lines.read().split("\n")[1 : _MERGES + 1], padding)
    raise ModelError(
        f"{path} holds no tokenizer: put the folder tokenizer of its model in diffusers' layout (vocab.json, "
        "merges.txt) beside it, or pip install open-clip-torch."
    )


def _tokenizer_of(merges: Iterable[str], padding: dict[str, str]) -> CLIPTokenizer:
    """Of CLIP's merges: the vocabulary is the bytes, the bytes that end a word, the merged pairs and two marks."""
    pairs = list(merges)
    letters = [chr(code) for code in _byte_codes()]
    entries = [*letters, *(f"{letter}</w>" for letter in letters), *(pair.replace(" ", "") for pair in pairs)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    with TemporaryDirectory() as folder:
        vocabulary = {entry: index for index, entry in enumerate(entries)}
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        Path(folder, "merges.txt").write_text("\n".join(["#version: 0.2", *pairs, ""]), encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True, **padding)


def _byte_codes() -> list[int]:
    """The code point that stands for each byte in GPT-2's and CLIP's vocabularies, printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + [256 + index for index in range(256 - len(printable))]
