"""Tuned weights on disk: one safetensors file with the trained tensors alone, under their published names.

Query projections are stored as they are after tuning, not as differences. So the strength of a tuning is measured from
the image model's queries, which `Adapter.base` holds; the temporal output projection starts at zero and
is measured from there.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import make_folder
from ..checks import check_choice, check_path, check_text, check_type, shown
from ..unet.families import COMPUTE_DTYPES
from ..unet.video_unet import DEFAULTS, VideoUNet, check_video_unet, trainable_parameters
from .files import raise_if_damaged, read_file, read_metadata, write_file

FORMAT = "tune-a-video-tuned-weights"
TRAINED, OWN = "trained", "own set"  # in the metadata of a file whose set of weights is not the published one


def save_tuned(
    video_unet: VideoUNet,
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write the trained weights to a file that is complete or not there at all.

    Arguments:
        video_unet: the tuned model.
        path: of the .safetensors file; folders are made, a file of this name is replaced.
        dtype: the type to store, None for that of the weights (float32).
        metadata: strings to store with them by name, such as the caption; "format", "version", "checksum", "trained"
            and the options of inflation are reserved.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: if an argument has another type or value, for example metadata that are no strings.
        OSError: if it cannot be written, for example to a full disk; an old file of this name is whole then.
    """
    check_video_unet(video_unet)
    check_choice("dtype", dtype, (None, *COMPUTE_DTYPES))
    metadata = metadata or {}
    check_type("metadata", metadata, Mapping, "give strings by name")
    for key, value in metadata.items():
        check_text("a name in metadata", key)
        check_text(f"metadata[{shown(key)}]", value)
    path = check_path(path)
    weights = trainable_parameters(video_unet)
    tensors = {name: weight.detach().to(dtype or weight.dtype) for name, weight in weights.items()}
    make_folder(path.parent)
    # The metadata may be those of a file that was loaded into another model.
    notes = {name: text for name, text in metadata.items() if name not in (*DEFAULTS, TRAINED)}
    write_file(path, tensors, notes | model_notes(video_unet) | {"format": FORMAT})
    return path


def model_notes(video_unet: VideoUNet) -> dict[str, str]:
    """What a file of tuned weights says of its model: the options of inflation and the set, where not as published."""
    options = {name: str(value) for name, value in video_unet.inflation.items() if value != DEFAULTS[name]}
    return options if video_unet.adapter.is_published else options | {TRAINED: OWN}


def load_tuned(video_unet: VideoUNet, path: str | os.PathLike[str], *, strength: float = 1.0) -> dict[str, str]:
    """Load a file of `save_tuned` into a model. If it raises, the model is unchanged.

    Each call measures the strength from the image model, not from the weights that were loaded before. The set of
    trained weights becomes that of the file.

    Arguments:
        video_unet: a model inflated from the same base.
        path: of the file.
        strength: see `apply_tuned`.

    Returns:
        The file's metadata.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another format, is damaged, belongs to another model, or holds NaN or infinity.
    """
    check_video_unet(video_unet)
    path = check_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No tuned weights at {path}.")
    tensors, metadata = read_file(path, FORMAT)
    own_set = metadata.get(TRAINED) == OWN
    try:
        raise_unless_inflated_alike(metadata, video_unet)
        video_unet.adapter.raise_unless_ours(tensors, own_set=own_set)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    raise_if_damaged(path, tensors, metadata)
    video_unet.adapter.load(tensors, strength, own_set=own_set)
    return metadata


_VALUES = {"True": True, "False": False}


def inflation_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options of `inflate` with which the model of a file was inflated.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no file of `save_tuned`.
    """
    path = check_path(path)
    metadata = read_metadata(path, FORMAT)
    given = {name: metadata.get(name, str(default)) for name, default in DEFAULTS.items()}
    return {name: _VALUES.get(text, int(text) if text.isdigit() else text) for name, text in given.items()}


def apply_tuned(video_unet: VideoUNet, tensors: Mapping[str, Tensor], *, strength: float = 1.0) -> None:
    """Load trained tensors into a model at a strength, see `Adapter.load`.

    Raises:
        ValueError: if names or shapes are not the model's, or a number is not finite.
    """
    video_unet.adapter.load(tensors, strength)


def raise_unless_inflated_alike(metadata: Mapping[str, str], video_unet: VideoUNet) -> None:
    for name, value in video_unet.inflation.items():
        tuned_with = metadata.get(name, str(DEFAULTS[name]))
        if tuned_with != str(value):
            raise ValueError(
                f"These weights were tuned with {name}={tuned_with}, this model was inflated with {name}={value}: "
                f"inflate it as it was tuned."
            )
