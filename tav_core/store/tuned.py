"""Tuned weights on disk: one safetensors file with the trained tensors alone, and what they are in its metadata.

Query projections are stored as they are after tuning, not as differences, so that a file can be read by the published
names. The strength of a tuning is therefore measured from the queries that the model had before it was inflated, which
`VideoUNet.base_queries` keeps; the temporal output projection starts at zero and is measured from there.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_choice, check_kind, check_number, check_path, check_text, shown
from ..unet.inflate import COMPUTE_DTYPES, VideoUNet, trainable_parameters
from .files import read_file, refuse_damaged, write_file

FORMAT = "tune-a-video-tuned-weights"
MAX_STRENGTH = 100
POSITIONS = "temporal_positions"  # in the metadata, where the model was inflated with them


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
        metadata: strings to keep with them, by name, say the caption; "format", "version", "checksum" and
            "temporal_positions" are taken.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: if an argument is something else than said, say metadata that are no strings.
        OSError: if it cannot be written, say because the disk is full; an old file of this name is whole then.
    """
    check_kind("video_unet", video_unet, VideoUNet, "call inflate(unet) first")
    check_choice("dtype", dtype, (None, *COMPUTE_DTYPES))
    check_kind("metadata", metadata or {}, Mapping, "give strings by name")
    for key, value in (metadata or {}).items():
        check_text("a name in metadata", key)
        check_text(f"metadata[{shown(key)}]", value)
    path = check_path(path)
    tensors = {
        name: parameter.detach().to(device="cpu", dtype=dtype or parameter.dtype).contiguous()
        for name, parameter in trainable_parameters(video_unet).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = {**(metadata or {}), "format": FORMAT}
    notes.pop(POSITIONS, None)  # of weights that were loaded, perhaps
    write_file(path, tensors, notes | ({POSITIONS: "yes"} if video_unet.temporal_positions else {}))
    return path


def load_tuned(video_unet: VideoUNet, path: str | os.PathLike[str], *, strength: float = 1.0) -> dict[str, str]:
    """Read a file of `save_tuned` into a model. Nothing is changed if anything is wrong.

    May be called again with another strength: each call starts from the image model, not from the last one.

    Arguments:
        video_unet: a model inflated from the same base.
        path: of the file.
        strength: see `apply_tuned`.

    Returns:
        The file's metadata.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file, is damaged, belongs to another model, or holds a number that is not finite.
    """
    check_kind("video_unet", video_unet, VideoUNet, "call inflate(unet) first")
    path = check_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No tuned weights at {path}.")
    tensors, metadata = read_file(path, FORMAT)
    try:
        _refuse_foreign(tensors, trainable_parameters(video_unet))
        _refuse_other_positions(metadata, video_unet)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    refuse_damaged(path, tensors, metadata)
    apply_tuned(video_unet, tensors, strength=strength)
    return metadata


def apply_tuned(video_unet: VideoUNet, tensors: Mapping[str, Tensor], *, strength: float = 1.0) -> None:
    """Put trained tensors into a model at a strength s: base + s (tuned - base), all of them or none.

    For the queries base is `video_unet.base_queries`, for the temporal output projection it is zero; the other temporal
    weights, which act through it alone, are taken as they are. At 0 the model computes what the image model does.

    Arguments:
        video_unet: a model inflated from the same base.
        tensors: the trained tensors by name, any floating type, on the CPU or the model's device.
        strength: 1 for the tuned weights to the bit, 0 for the image model; others extend or fade the tuning.

    Raises:
        ValueError: if names or shapes are not the model's, or a number is not finite.
    """
    check_number("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)
    parameters = trainable_parameters(video_unet)
    _refuse_foreign(tensors, parameters)
    with torch.inference_mode(False), torch.no_grad():
        for name, parameter in parameters.items():
            tuned = tensors[name].to(device=parameter.device, dtype=parameter.dtype)
            if name in video_unet.base_queries:
                tuned = torch.lerp(video_unet.base_queries[name].to(tuned), tuned, strength)
            elif ".attn_temp.to_out." in name:
                tuned = strength * tuned
            parameter.copy_(tuned)


def _refuse_other_positions(metadata: Mapping[str, str], video_unet: VideoUNet) -> None:
    tuned_with = POSITIONS in metadata
    if tuned_with != video_unet.temporal_positions:
        raise ValueError(
            f"These weights were tuned {'with' if tuned_with else 'without'} temporal positions: "
            f"inflate the model with temporal_positions={tuned_with}."
        )


def _refuse_foreign(tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    missing, unknown = parameters.keys() - tensors.keys(), tensors.keys() - parameters.keys()
    if missing or unknown:
        example = min(missing | unknown)
        raise ValueError(
            f"These tuned weights belong to another model: {len(missing)} tensors are missing and {len(unknown)} "
            f"unknown, such as {example}. Load the base model that was tuned."
        )
    for name, parameter in parameters.items():
        if tensors[name].shape != parameter.shape:
            raise ValueError(
                f"These tuned weights belong to another model: {name} has shape {tuple(tensors[name].shape)}, "
                f"this model's is {tuple(parameter.shape)}. Load the base model that was tuned."
            )
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"{name} holds a number that is not finite: the tuning diverged. Tune again.")
