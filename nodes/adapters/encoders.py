"""CLIP, PickScore and DINOv2 for the measures: their folders in the host's models folder, and memory for them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management as host
import folder_paths

from .folders import ENCODERS_FOLDER

if TYPE_CHECKING:
    from ...tav_core.evaluation import Encoders

NO_ENCODER = "none"
MODEL_TYPES = {"clip": "clip", "pickscore": "clip", "dino": "dinov2"}  # encoder -> as its config.json has it


def encoder_folders(encoder: str) -> list[str]:
    """Names of the folders that hold a model for one of MODEL_TYPES in transformers' layout, after "none"."""
    model_type = MODEL_TYPES[encoder]
    configs = {config.parent.name: config for root in _roots() for config in sorted(root.glob("*/config.json"))}
    return [NO_ENCODER, *sorted(name for name, config in configs.items() if _model_type(config) == model_type)]


def load_encoders(**chosen: str) -> "Encoders":
    """Load encoders onto the host's device, after freeing memory there. They are freed with the result.

    Arguments:
        chosen: names of MODEL_TYPES -> one of `encoder_folders`.

    Raises:
        ValueError: there is no folder of that name, or it cannot be used.
    """
    from ...tav_core.evaluation import Encoders

    folders = {encoder: _folder(name, encoder) for encoder, name in chosen.items() if name != NO_ENCODER}
    device = host.get_torch_device()
    size = sum(file.stat().st_size for folder in folders.values() for file in folder.glob("*.safetensors"))
    if size:
        host.free_memory(1.3 * size, device)
    return Encoders.load(**folders, device=device)


def _folder(name: str, encoder: str) -> Path:
    if name not in encoder_folders(encoder):  # a name cannot lead out of the models folder
        raise ValueError(
            f"There is no {MODEL_TYPES[encoder]} folder {name!r} in models/{ENCODERS_FOLDER}. Copy one there."
        )
    return next(root / name for root in _roots() if (root / name / "config.json").is_file())


def _roots() -> list[Path]:
    return [Path(root) for root in folder_paths.get_folder_paths(ENCODERS_FOLDER)]


def _model_type(config: Path) -> str | None:
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None  # not a model folder
