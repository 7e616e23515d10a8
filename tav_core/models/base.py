"""Base models from disk: a local folder in diffusers' layout, a checkpoint in one file, or the bundled model.

Nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import is_accelerate_available
from packaging.version import Version
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..checks import check_choice, check_device, check_integer, check_path
from ..unet.families import COMPUTE_DTYPES
from .folder import (
    ModelError,
    check_folder,
    check_network,
    check_scheduler,
    check_size,
    find_variant,
    is_network,
    parts_of,
)
from .published import is_published, read_published
from .single_file import is_single_file, read_single_file

ASSETS = Path(__file__).parents[1] / "assets"
DEMO_MODEL = "demo"  # the name of the bundled model
BUNDLED_CLIPS = {"cartwheel": ASSETS / "demo-clip.mp4", "cartwheel-2": ASSETS / "demo-clip-2.mp4"}
MAX_SAMPLE_SIZE = 2**16
REASON_LENGTH = 300  # characters of a library's error that are shown
DTYPE = "dtype" if Version(version("transformers")) >= Version("4.56") else "torch_dtype"  # its argument's name
DIFFUSERS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}


@dataclass(frozen=True)
class BaseModel:
    """The parts of a text-to-image model, as diffusers and transformers load them; SDXL alone has the last two."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler
    text_encoder_2: CLIPTextModelWithProjection | None = None
    tokenizer_2: CLIPTokenizer | None = None

    @property
    def image_size(self) -> int:
        """Width and height in pixels that the model was trained at.

        Raises:
            ModelError: if its configuration gives no single size.
        """
        size = self.unet.config.sample_size
        check_integer("The sample_size in the unet's config.json", size, 1, MAX_SAMPLE_SIZE, ModelError)
        return size * self.pixels_per_latent

    @property
    def pixels_per_latent(self) -> int:
        return 2 ** (len(self.vae.config.block_out_channels) - 1)


def load_model(
    path_or_name: str | Path = DEMO_MODEL,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> BaseModel:
    """Load a base model from a local folder in diffusers' layout, or from a single-file checkpoint.

    Arguments:
        path_or_name: a folder with unet/, vae/, text_encoder/, tokenizer/ and scheduler/, for SDXL text_encoder_2/ and
            tokenizer_2/ too, whose weights may be sharded or of a variant such as fp16 alone, and whose UNet may be a
            tuned one of the published implementation (see `published.py`); a .safetensors file of
            Stable Diffusion 1, 2 or XL (see `single_file.read_single_file`); or "demo" for the bundled model.
        device, dtype: of the networks; the type or its name, such as "float16". SDXL's autoencoder overflows in
            float16 and stays float32, unless its configuration has force_upcast = false.

    Returns:
        The parts, in evaluation mode, with no parameter requiring a gradient.

    Raises:
        ModelError: if the folder, the file or a part of it is missing, incomplete or unreadable, its weights are
            pickled, or it is another kind of model.
        ValueError: if the device cannot be used here, or the type is not one to compute in.
    """
    weight_dtype: Any = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
    check_choice("dtype", weight_dtype, COMPUTE_DTYPES)
    check_device(torch.device(device))
    folder = ASSETS / "demo-model" if path_or_name == DEMO_MODEL else check_path(path_or_name, ModelError)
    if is_single_file(folder) and not folder.is_dir():
        loaded = read_single_file(folder, weight_dtype)
    else:
        loaded = _read_folder(folder, weight_dtype)
    for second in ("", "_2") if "tokenizer_2" in loaded else ("",):
        _check_tokenizer(folder, loaded[f"tokenizer{second}"], loaded[f"text_encoder{second}"])
    if "tokenizer_2" in loaded and loaded["vae"].config.force_upcast:  # the default, and in SDXL alone it is needed
        loaded["vae"].float()
    for part in filter(is_network, loaded):
        loaded[part] = loaded[part].to(device).eval().requires_grad_(False)
    loaded["unet"].prediction_type = loaded["scheduler"].config.prediction_type  # nothing in the UNet shows it
    return BaseModel(**loaded)


def _read_folder(folder: Path, weight_dtype: torch.dtype) -> dict[str, Any]:
    check_folder(folder)
    loaded: dict[str, Any] = {}
    for part in parts_of(folder):
        try:
            loaded[part] = read_network(folder / part, weight_dtype) if is_network(part) else _read_other(folder / part)
        except Exception as error:  # each library raises its own types; all mean that this part cannot be read
            reason = " ".join(str(error).split())[:REASON_LENGTH].rstrip(". ")
            raise ModelError(
                f"The {part} of the model in {folder} cannot be read: {reason}. "
                f"Copy the model again, or save it once more with save_pretrained(safe_serialization=True)."
            ) from error
    return loaded


def read_network(part: Path, dtype: torch.dtype) -> Any:
    """Read one network of a model with all of its weights, on the CPU.

    Arguments:
        part: its folder, named "unet", "vae", "text_encoder" or "text_encoder_2".
        dtype: of its weights.

    Raises:
        Exception: of the library that reads it, or ValueError if weights are missing, which the libraries would
            initialise at random with a warning. `load_model` turns all of these into a ModelError.
    """
    config = check_network(part)
    if is_published(part, config):
        return read_published(part, config, dtype)
    if part.name in DIFFUSERS:
        return read_diffusers(DIFFUSERS[part.name], part, config, dtype)
    kind = CLIPTextModel if part.name == "text_encoder" else CLIPTextModelWithProjection
    with torch.device("meta"):
        check_size(part, kind(CLIPTextConfig.from_dict(config)))
    return _complete(kind.from_pretrained(part, **{DTYPE: dtype}, **_options(part)))


def read_diffusers(kind: Any, part: Path, config: dict[str, Any], dtype: torch.dtype) -> Any:
    """Read a network of diffusers; see `read_network`. `config` is what `check_network` returned."""
    with torch.device("meta"):
        check_size(part, kind.from_config(config))
    low_memory = is_accelerate_available()  # without it diffusers only warns
    return _complete(kind.from_pretrained(part, torch_dtype=dtype, low_cpu_mem_usage=low_memory, **_options(part)))


def _options(part: Path) -> dict[str, Any]:
    variant = find_variant(part)
    return dict(use_safetensors=True, local_files_only=True, output_loading_info=True, variant=variant)


def _complete(loaded: tuple[Any, dict[str, Any]]) -> Any:
    """The network, unless its files lacked weights."""
    network, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"the weights lack {len(missing)} tensors, such as {missing[0]}.")
    return network


def _read_other(part: Path) -> Any:
    """Read the tokenizer or the scheduler."""
    if part.name.startswith("tokenizer"):
        return CLIPTokenizer.from_pretrained(part, local_files_only=True)
    check_scheduler(part)
    return DDIMScheduler.from_pretrained(part, local_files_only=True)


def _check_tokenizer(folder: Path, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
    """Raise if a tokenizer has no padding token, or has ids for which the text encoder has no embedding."""
    if tokenizer.pad_token is None:
        raise ModelError(f"The tokenizer of the model in {folder} has no padding token. Copy the model again.")
    largest, embeddings = max(tokenizer.get_vocab().values()), text_encoder.get_input_embeddings().num_embeddings
    if largest >= embeddings:
        raise ModelError(
            f"The tokenizer of the model in {folder} has ids up to {largest}, and the text encoder has {embeddings} "
            "embeddings: they do not belong together. Copy the model again."
        )
