"""CLIP, PickScore and DINOv2 from folders on disk, in transformers' layout. Nothing is downloaded.

Frames are prepared as by transformers' PIL image processor, with which the published figures were computed. The library
itself resizes in another way if torchvision is installed, so that its figures depend on the installation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer, Dinov2Model

from ..models.folder import check_network

_BATCH = 16  # frames that pass through a network at once


class EncoderError(ValueError):
    """A folder of weights that cannot be used, with the reason and the remedy."""


@dataclass(frozen=True)
class FramePreparation:
    """preprocessor_config.json: the shortest edge is resized (bicubic), the centre cropped, values normalised."""

    shortest_edge: int
    crop: tuple[int, int]  # height, width
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_folder(cls, folder: Path) -> FramePreparation:
        config = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        size, crop = config["size"], config["crop_size"]  # older files have plain numbers
        crop = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
        edge = size if isinstance(size, int) else size["shortest_edge"]
        return cls(edge, crop, tuple(config["image_mean"]), tuple(config["image_std"]))

    def __call__(self, pictures: list[Image.Image]) -> Tensor:
        """RGB pictures -> (n, 3, h, w)."""
        return torch.stack([self._prepare(picture) for picture in pictures])

    def _prepare(self, picture: Image.Image) -> Tensor:
        short, long = sorted(picture.size)
        other = int(self.shortest_edge * long / short)
        size = (self.shortest_edge, other) if picture.width <= picture.height else (other, self.shortest_edge)
        resized = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
        top, left = (resized.shape[0] - self.crop[0]) // 2, (resized.shape[1] - self.crop[1]) // 2
        middle = resized[top : top + self.crop[0], left : left + self.crop[1]]
        normal = (middle - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return torch.from_numpy(normal).permute(2, 0, 1)


@dataclass(frozen=True)
class ClipFeatures:
    """Features of frames, of unit length: embeddings (f, d) in the space shared with text, pooled outputs (f, D)."""

    embeddings: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class ClipEncoder:
    """A CLIP model, or one of its architecture such as PickScore. scale: the factor on cosines, 100 in both."""

    model: CLIPModel
    tokenizer: CLIPTokenizer
    prepare: FramePreparation
    scale: float

    @torch.no_grad()
    def encode_frames(self, pictures: list[Image.Image]) -> ClipFeatures:
        embeddings, pooled = [], []
        for batch in self.prepare(pictures).split(_BATCH):
            output = self.model.vision_model(pixel_values=batch.to(self.model.device)).pooler_output
            pooled.append(_unit(output))
            embeddings.append(_unit(self.model.visual_projection(output)))
        return ClipFeatures(torch.cat(embeddings), torch.cat(pooled))

    @torch.no_grad()
    def encode_text(self, prompt: str) -> Tensor:
        """(d,) of unit length; a prompt longer than the encoder's limit is truncated."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt")
        ids, mask = tokens.input_ids.to(self.model.device), tokens.attention_mask.to(self.model.device)
        output = self.model.text_model(input_ids=ids, attention_mask=mask).pooler_output
        return _unit(self.model.text_projection(output))[0]


@dataclass(frozen=True)
class DinoEncoder:
    """A DINOv2 model."""

    model: Dinov2Model
    prepare: FramePreparation

    @torch.no_grad()
    def encode_frames(self, pictures: list[Image.Image]) -> Tensor:
        """The pooled output (the first token) of each frame, (f, d) of unit length."""
        batches = self.prepare(pictures).split(_BATCH)
        return torch.cat([_unit(self.model(batch.to(self.model.device)).pooler_output) for batch in batches])


def load_clip(folder: str | Path, device: torch.device | str = "cpu") -> ClipEncoder:
    """Load CLIP (openai/clip-vit-large-patch14 for published figures) or PickScore (yuvalkirstain/PickScore_v1).

    The folder holds config.json, *.safetensors, preprocessor_config.json and the tokenizer's files; PickScore's
    last two come from laion/CLIP-ViT-H-14-laion2B-s32B-b79K.

    Raises:
        EncoderError: if a file is missing or unreadable, or the weights are of another model.
    """
    folder = Path(folder)
    model = _load_network(CLIPModel, "clip", folder, device)
    # Without these files transformers makes an empty tokenizer.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise EncoderError(f"{folder} holds no tokenizer.json or vocab.json. Copy the tokenizer's files there too.")
    tokenizer = _read(folder, "tokenizer", lambda: CLIPTokenizer.from_pretrained(folder, local_files_only=True))
    return ClipEncoder(model, tokenizer, _load_preparation(folder), float(model.logit_scale.exp()))


def load_dino(folder: str | Path, device: torch.device | str = "cpu") -> DinoEncoder:
    """Load DINOv2 (facebook/dinov2-base for published figures): config.json, *.safetensors, preprocessor_config.json.

    Raises:
        EncoderError: if a file is missing or unreadable, or the weights are of another model.
    """
    folder = Path(folder)
    return DinoEncoder(_load_network(Dinov2Model, "dinov2", folder, device), _load_preparation(folder))


def as_pictures(frames: np.ndarray) -> list[Image.Image]:
    """(f, h, w, 3) in [0, 1] -> 8-bit RGB pictures, as read back from a file."""
    return [Image.fromarray(frame) for frame in (np.clip(frames, 0, 1) * 255).round().astype(np.uint8)]


def _load_network(kind: Any, model_type: str, folder: Path, device: torch.device | str) -> Any:
    if not folder.is_dir():
        raise EncoderError(f"There is no folder {folder}. Give a local folder with a model in transformers' layout.")
    config = _read(folder, "config.json", lambda: check_network(folder))
    if config.get("model_type") != model_type:
        raise EncoderError(f"{folder} holds a model of type {config.get('model_type')!r}, not {model_type!r}.")
    if not any(folder.glob("*.safetensors")):
        raise EncoderError(
            f"{folder} holds no .safetensors weights. Pickled .bin weights are never opened: convert them."
        )
    options = dict(local_files_only=True, use_safetensors=True, output_loading_info=True)
    model, notes = _read(folder, "model", lambda: kind.from_pretrained(folder, **options))
    if notes["missing_keys"]:
        raise EncoderError(f"The weights in {folder} lack {sorted(notes['missing_keys'])[0]!r}: copy the model again.")
    return model.to(device).eval().requires_grad_(False)


def _load_preparation(folder: Path) -> FramePreparation:
    return _read(folder, "preprocessor_config.json", lambda: FramePreparation.from_folder(folder))


def _read(folder: Path, part: str, load: Any) -> Any:
    try:
        return load()
    except Exception as error:  # each library raises its own types; all mean that this part cannot be read
        raise EncoderError(
            f"The {part} of the model in {folder} is missing or cannot be read ({error}). Copy the whole model again."
        ) from error


def _unit(vectors: Tensor) -> Tensor:
    return vectors.float() / vectors.float().norm(dim=-1, keepdim=True)
