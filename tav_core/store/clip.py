"""A tuned clip on disk: its weights, their strength, and the inversion that they made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import make_folder
from ..checks import check_path
from ..editing.inversion import InversionStep
from ..unet.video_unet import VideoUNet
from .files import digest, raise_if_damaged, read_file, write_file
from .tuned import OWN, TRAINED, model_notes, raise_unless_inflated_alike

FORMAT = "tune-a-video-clip"
WEIGHTS = "weights."


@dataclass(frozen=True, eq=False)
class SavedClip:
    """What `save_clip` writes.

    Attributes:
        weights: of the tuning at strength 1, by name.
        strength: that was set.
        trajectory: the steps of the inversion; empty without one.
    """

    weights: dict[str, Tensor]
    strength: float
    trajectory: list[InversionStep]


def save_clip(
    path: str | PathLike[str], video_unet: VideoUNet, latents: Tensor, trajectory: Sequence[InversionStep]
) -> Path:
    """Write a file that is complete or not there at all.

    Arguments:
        path: of the .safetensors file; folders are made, a file of this name is replaced.
        video_unet: the tuned model.
        latents: of the clip, which the file is bound to by their digest.
        trajectory: the inversion by the weights as they are; empty to save none.

    Raises:
        OSError: if it cannot be written.
    """
    path = check_path(path)
    adapter = video_unet.adapter
    tensors = {f"{WEIGHTS}{name}": weight for name, weight in adapter.tuned.items()}
    if trajectory:
        tensors["inversion.timesteps"] = torch.tensor([step.timestep for step in trajectory])
        tensors["inversion.latents"] = torch.stack([step.latents.cpu() for step in trajectory])
    notes = model_notes(video_unet) | {"strength": repr(float(adapter.scale)), "clip": _clip_digest(latents)}
    make_folder(path.parent)
    write_file(path, tensors, notes | {"format": FORMAT})
    return path


def load_clip(path: str | PathLike[str], video_unet: VideoUNet, latents: Tensor) -> SavedClip:
    """Read a file of `save_clip` and load its weights into the model. If it raises, the model is unchanged.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of another format, another model or another clip.
    """
    path = check_path(path)
    tensors, notes = read_file(path, FORMAT)
    raise_if_damaged(path, tensors, notes)
    try:
        raise_unless_inflated_alike(notes, video_unet)
        if notes["clip"] != _clip_digest(latents):
            raise ValueError("this file was saved of another clip: give the frames that it was saved with.")
        weights = {name.removeprefix(WEIGHTS): t for name, t in tensors.items() if name.startswith(WEIGHTS)}
        video_unet.adapter.load(weights, float(notes["strength"]), own_set=notes.get(TRAINED) == OWN)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    timesteps = tensors.get("inversion.timesteps", torch.empty(0)).tolist()
    made = tensors.get("inversion.latents", torch.empty(0)).to(latents.device)
    steps = [InversionStep(int(t), step) for t, step in zip(timesteps, made, strict=True)]
    return SavedClip(weights, float(notes["strength"]), steps)


def _clip_digest(latents: Tensor) -> str:
    return digest({"latents": latents})
