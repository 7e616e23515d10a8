"""Tiny CLIP and DINOv2 folders in transformers' layout, with made-up weights."""

import json
import shutil
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from tav_core.models.base import ASSETS

SIZE = 32  # pixels that the encoders see
_TRUNK = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_PREPARATION = {
    "do_resize": True,
    "size": {"shortest_edge": SIZE + 4},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def make_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP whose tokenizer is the bundled model's."""
    text = _TRUNK | {"vocab_size": 652, "bos_token_id": 650, "eos_token_id": 651, "pad_token_id": 651}
    vision = _TRUNK | {"image_size": SIZE, "patch_size": 8}
    _save(folder, CLIPModel, CLIPConfig(text_config=text, vision_config=vision, projection_dim=12), seed)
    shutil.copytree(ASSETS / "demo-model" / "tokenizer", folder, dirs_exist_ok=True)
    return folder


def make_dino(folder: Path, seed: int = 0) -> Path:
    trunk = {name: size for name, size in _TRUNK.items() if name != "intermediate_size"}
    _save(folder, Dinov2Model, Dinov2Config(**trunk, image_size=SIZE, patch_size=8), seed)
    return folder


def _save(folder: Path, kind: type, config: object, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        for parameter in model.parameters():  # far from the small values that make all pictures alike
            if parameter.ndim > 1:
                parameter.data.normal_(0, 0.2)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPARATION))
