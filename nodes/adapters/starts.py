"""What an edit starts from, and what is wrong with it: refused with the remedy, or a warning for the node to show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ... import tav_core
from ...tav_core import SamplingConfig
from .data import clip_latents, embeddings, host_latents
from .folders import BUNDLED, BUNDLED_CAPTION, BUNDLED_FILE
from .ways import NOISE, SOURCE_BRANCH

if TYPE_CHECKING:
    from .handle import TavModel

Prompt = Mapping[str, Any] | None  # all nodes of a run by their ids
# What the LATENT of DDIM Invert holds besides: its samples at each timestep, rising; and the weights that made it.
TRAJECTORY, WEIGHTS = "tav_trajectory", "tav_weights"
TUNED_CLIP = "clip_print"  # the note of a tuning that tells its clip
PRINT_SIZE = (2, 4, 4)  # frames, height, width of a clip's print
SAME_CLIP = 0.05  # by which the prints of one clip may differ, as a share of their length, from device to device
UNTUNED = "The model is not tuned, so the edit will not have the clip's motion. Connect the TAV_MODEL of One-Shot Tune."
OTHER_CLIP = (
    "The model was tuned on another clip, or on other frames of it, so the edit will not have this motion. "
    "Tune it on this clip, or connect the LATENT that One-Shot Tune has."
)


def inverted_latents(trajectory: Sequence[tav_core.InversionStep], model: TavModel) -> dict[str, Any]:
    """The noise that an inversion ends in as the host's LATENT, with its steps, so that sampling may start within."""
    samples = {step.timestep: host_latents(step.latents, model)["samples"] for step in trajectory}
    return {"samples": samples[trajectory[-1].timestep], TRAJECTORY: samples, WEIGHTS: _weights_of(model)}


def clip_prints(clips: Tensor) -> str:
    """A short text that tells clips apart: latents (b, c, f, h, w), averaged to few numbers, a list for each of b."""
    numbers = F.adaptive_avg_pool3d(clips, PRINT_SIZE).flatten(1).tolist()
    prints = [[round(value, 3) for value in clip] for clip in numbers]
    return json.dumps(prints if len(prints) > 1 else prints[0])


def warnings_of(model: TavModel, clip: Tensor) -> list[str]:
    """What to warn of before a model inverts or edits a clip, latents (1, c, f, h, w)."""
    if model.tuned is None:
        return [UNTUNED]
    noted = model.notes.get(TUNED_CLIP)
    return [OTHER_CLIP] if noted is not None and not _is_among(clip_prints(clip), noted) else []


def raise_if_blank(prompt: Prompt, name: str, remedy: str) -> None:
    """Raise a ValueError if the CLIP Text Encode that is connected to an input of the running node has no text.

    Arguments:
        prompt: the host's hidden input of this name.
        name: of the input.
    """
    text, title = _text_of(prompt, name)
    if text is not None and not text.strip():
        raise ValueError(f"{name} is empty: {remedy} in {title}.")


def caption_warnings(prompt: Prompt) -> list[str]:
    """What to warn of if the running node tunes on a clip of the user's under the caption of the bundled clip."""
    text, title = _text_of(prompt, "caption")
    clip = _source(prompt, _source(prompt, _running(prompt), "latents"), "pixels")
    given = clip.get("inputs", {})
    file = "a VIDEO of another node" if given.get("video") else given.get("file")
    if text != BUNDLED_CAPTION or clip.get("class_type") != "TAVLoadVideo" or file in (None, BUNDLED, BUNDLED_FILE):
        return []
    return [f"The caption is still that of the bundled clip, and the clip is {file}. Write what it shows in {title}."]


def _text_of(prompt: Prompt, name: str) -> tuple[str | None, str]:
    """Text and title of the CLIP Text Encode at an input of the running node; None if that is something else."""
    source = _source(prompt, _running(prompt), name)
    text = source.get("inputs", {}).get("text")
    known = source.get("class_type") == "CLIPTextEncode" and isinstance(text, str)
    return text if known else None, source.get("_meta", {}).get("title", "CLIP Text Encode")


def _running(prompt: Prompt) -> Mapping[str, Any]:
    context = get_executing_context()
    return {} if prompt is None or context is None else prompt.get(context.node_id, {})


def _source(prompt: Prompt, entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The node that is connected to an input; empty without one."""
    link = entry.get("inputs", {}).get(name)
    return (prompt or {}).get(link[0], {}) if isinstance(link, list) else {}


def edit_start(
    start_from: str,
    latents: Mapping[str, Any],
    caption: list | None,
    mask: Tensor | None,
    model: TavModel,
    config: SamplingConfig,
) -> tuple[Tensor | tav_core.SourceBranch, Tensor | None, list[str]]:
    """What an edit starts from, where it may change the clip, and what to warn of.

    Arguments:
        start_from: one of START_FROM.
        latents: of the inversion; with a source branch, of the clip.

    Raises:
        ValueError: if the inputs do not fit the start.
    """
    from ...tav_core.editing.edit import fresh_noise

    if start_from == SOURCE_BRANCH:
        return _source_branch(latents, caption, mask, model)
    if mask is not None:
        raise ValueError(
            "A mask locks parts of the clip in way content and look alone: choose one, or remove the mask."
        )
    warnings = [UNTUNED] if model.tuned is None else []
    if start_from == NOISE:
        return fresh_noise(tuple(clip_latents(latents, model).shape), config), None, warnings
    if latents.get(WEIGHTS, _weights_of(model)) != _weights_of(model):
        warnings.append(
            "The clip was inverted with other weights than the edit is sampled with, so the edit will not follow it. "
            "Connect one TAV_MODEL to DDIM Invert and to Sample Edit."
        )
    return _inverted_start(latents, model, config), None, warnings


def _inverted_start(latents: Mapping[str, Any], model: TavModel, config: SamplingConfig) -> Tensor:
    """The inverted clip at the level of the first timestep, (1, c, f, h, w).

    Raises:
        ValueError: if it was not inverted, or with another number of steps, or does not reach that level.
    """
    steps, samples = config.num_inference_steps, latents["samples"]
    trajectory = latents.get(TRAJECTORY)
    if trajectory is None:
        raise ValueError(
            "latents are not those of DDIM Invert, from which way published starts. Connect the LATENT of DDIM Invert, "
            "or set way to content or look, which start from the clip."
        )
    if len(trajectory) != steps:
        raise ValueError(
            f"The clip was inverted with {len(trajectory)} steps and is sampled with {steps}. Set steps of DDIM Invert "
            "and of Sample Edit to the same number."
        )
    if set(trajectory) != set(model.schedule.timesteps(steps)):
        raise ValueError(
            "The clip was inverted at other timesteps than it is sampled at. Set sampler of DDIM Invert and of Sample "
            "Edit to the same."
        )
    if config.denoise < 1:
        # The result of a node between that changes the noise would be ignored.
        if not torch.equal(samples, list(trajectory.values())[-1]):
            raise ValueError(
                "denoise below 1 starts from within the inversion. Connect the LATENT of DDIM Invert directly, or set "
                "denoise to 1."
            )
        samples = trajectory[model.schedule.timesteps(steps, config.denoise)[0]]
    return clip_latents({"samples": samples, "noise_mask": latents.get("noise_mask")}, model)


def _source_branch(
    latents: Mapping[str, Any], caption: list | None, mask: Tensor | None, model: TavModel
) -> tuple[tav_core.SourceBranch, Tensor | None, list[str]]:
    """The clip that an edit preserves, the mask at the size of its latents, and what to warn of.

    Raises:
        ValueError: without a caption, for latents that are noise, or a mask that is black or of another number of
            frames.
    """
    if caption is None:
        raise ValueError(
            "way content and look need the clip's caption: connect the CLIP Text Encode that it was tuned under to "
            "caption."
        )
    if TRAJECTORY in latents:
        raise ValueError(
            "way content and look start from the clip, and latents are the noise of DDIM Invert: connect VAE Encode to "
            "clip_latents, or set way to published."
        )
    clip = clip_latents(latents, model)
    if mask is not None:
        if not mask.any():
            raise ValueError(
                "The mask is black, so nothing may change: make it white where the edit acts, or remove it."
            )
        with torch.inference_mode(False):
            mask = tav_core.latent_mask(mask.detach().clone(), clip)
    return tav_core.SourceBranch(clip, embeddings(caption, "caption", model, clip)), mask, warnings_of(model, clip)


def _weights_of(model: TavModel) -> str:
    return f"{model.weights} {model.strength:g}"


def _is_among(text: str, noted: str) -> bool:
    """Whether the text of `clip_prints` of one clip is of one of those that were noted."""
    one, known = (torch.tensor(json.loads(given)).float() for given in (text, noted))
    known = known.reshape(-1, known.shape[-1])  # (b, numbers)
    return one.shape == known.shape[1:] and bool(((one - known).norm(dim=1) <= SAME_CLIP * known.norm(dim=1)).any())
