"""LATENT, CONDITIONING, AUDIO and VIDEO: the host's conventions to and from those of the core.

The host's latents are unscaled, (f, c, h, w) with the frames as a batch; the core's are scaled, (1, c, f, h, w). Every
input tensor is copied out of inference mode, since such tensors cannot be trained on.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from comfy_api.v0_0_2 import InputImpl
from einops import rearrange
from PIL import Image
from torch import Tensor

from ... import tav_core
from ...tav_core import Conditioning
from ...tav_core.conditioning import as_conditioning
from ...tav_core.unet.added import TEXT_EMBEDS, TIME_IDS, added_widths
from .control import with_control
from .progress import raise_if_interrupted

if TYPE_CHECKING:
    from ...tav_core.video import Audio
    from .handle import TavModel

T = TypeVar("T")
REMEDIES = {
    "area": "remove Conditioning (Set Area)",
    "strength": "remove Conditioning (Set Area Strength)",
    "mask": "remove Conditioning (Set Mask)",
    "start_percent": "remove ConditioningSetTimestepRange",
    "end_percent": "remove ConditioningSetTimestepRange",
    "clip_start_percent": "remove the hooks that schedule the CLIP",
    "hooks": "remove the hooks (Set CLIP Hooks, Create Hook LoRA); load a LoRA with Load LoRA",
    "gligen": "remove GLIGENTextBoxApply",
    "unclip_conditioning": "remove unCLIPConditioning",
    "concat_latent_image": "remove InpaintModelConditioning or InstructPixToPixConditioning",
    "reference_latents": "remove ReferenceLatent",
}
HARMLESS = {"pooled_output", "set_area_to_bounds", "control", "control_apply_to_uncond"}
# Of SDXL: height and width, the crop's top and left, and the target's height and width, each with what it is without.
SIZES = {"height": None, "width": None, "crop_h": 0, "crop_w": 0, "target_height": "height", "target_width": "width"}
PIXELS_PER_LATENT = 8


def clip_latents(latents: Mapping[str, Any], model: TavModel) -> Tensor:
    """The host's LATENT, frames as a batch, to scaled latents of one clip (1, c, f, h, w).

    Raises:
        ValueError: if it is no batch of images, or carries a mask.
    """
    samples = latents["samples"]
    if samples.ndim != 4:
        raise ValueError(
            "LATENT is that of a video or sound model, and not frames as a batch of images. Encode IMAGE with VAE "
            "Encode and the VAE of this model's checkpoint."
        )
    if latents.get("noise_mask") is not None:
        raise ValueError("LATENT carries a noise mask, which is not supported: remove Set Latent Noise Mask.")
    with torch.inference_mode(False):
        return rearrange(samples.detach().clone().float() * model.scale, "f c h w -> 1 c f h w").contiguous()


def host_latents(clip: Tensor, model: TavModel) -> dict[str, Any]:
    """Scaled latents of one clip (1, c, f, h, w) to the host's LATENT on the CPU."""
    return {"samples": rearrange(clip.detach().cpu() / model.scale, "1 c f h w -> f c h w").contiguous()}


def quick_pictures(clip: Tensor, model: TavModel) -> Tensor | None:
    """Scaled latents (1, c, f, h, w) to small frames (f, h, w, 3) in [0, 1], by the host's linear map of the family.

    None if the host has none for it.
    """
    factors = getattr(model.latent_format, "latent_rgb_factors", None)
    if factors is None:
        return None
    bias = torch.tensor(model.latent_format.latent_rgb_factors_bias or [0.0] * 3)
    colours = rearrange(clip.detach().float().cpu(), "1 c f h w -> f h w c") @ torch.tensor(factors) + bias
    return ((colours + 1) / 2).clamp(0, 1)


def embeddings(conditioning: list, name: str, model: TavModel, clip: Tensor) -> Tensor | Conditioning:
    """The host's CONDITIONING to embeddings (1, n, d), under the ControlNets that it carries.

    Arguments:
        name: of the input, for the message.
        model: of SDXL it takes the pooled text and sizes, which are those of the clip where CONDITIONING says none.
        clip: its latents, (1, c, f, h, w).

    Raises:
        ValueError: if it holds more than one prompt for the whole picture and the whole time, or no pooled text.
    """
    is_xl = bool(added_widths(model.video_unet.unet.config))
    if len(conditioning) != 1:
        raise ValueError(
            f"{name} holds {len(conditioning)} entries; one is supported. Remove Conditioning (Combine), and write all "
            "into one prompt."
        )
    tensor, extras = conditioning[0]
    for key, value in extras.items():
        if value is not None and key not in HARMLESS and not (is_xl and key in SIZES):
            remedy = REMEDIES.get(key, "connect CLIP Text Encode directly")
            raise ValueError(f"{name} holds more than a prompt for the whole clip ({key}): {remedy}.")
    if tensor.ndim != 3 or tensor.shape[0] != 1:
        raise ValueError(
            f"{name} is not one prompt of a text encoder of Stable Diffusion. Connect CLIP Text Encode directly."
        )
    with torch.inference_mode(False):
        return with_control(tensor.detach().clone().float(), extras, _added(extras, name, clip) if is_xl else {})


def _added(extras: Mapping[str, Any], name: str, clip: Tensor) -> dict[str, Tensor]:
    """What SDXL takes beside the prompt, as the host reads it from CONDITIONING.

    Raises:
        ValueError: there is no pooled text.
    """
    pooled = extras.get("pooled_output")
    if pooled is None:
        raise ValueError(
            f"{name} holds no pooled text, which SDXL takes: connect CLIP Text Encode with the CLIP of the SDXL "
            "checkpoint."
        )
    sizes = {"height": clip.shape[-2] * PIXELS_PER_LATENT, "width": clip.shape[-1] * PIXELS_PER_LATENT}
    for key, without in SIZES.items():
        value = extras.get(key)
        sizes[key] = value if value is not None else sizes.get(key, sizes.get(str(without), without))  # type: ignore[arg-type]
    ids = torch.tensor([[sizes[key] for key in SIZES]], dtype=torch.float32)
    return {TEXT_EMBEDS: pooled.detach().clone().float(), TIME_IDS: ids}


def guided_embeddings(
    positive: list, negative: list, model: TavModel, clip: Tensor
) -> tuple[Tensor | Conditioning, Tensor | Conditioning]:
    """Both prompts as `embeddings` returns them.

    Where the host would let the control of `positive` act on a `negative` without one, it does.
    """
    under, away = embeddings(positive, "positive", model, clip), embeddings(negative, "negative", model, clip)
    of_both = positive[0][1].get("control_apply_to_uncond", False)
    if of_both and isinstance(under, Conditioning) and under.controls:
        plain = as_conditioning(away)
        away = plain if plain.controls else plain.under(under.controls)
    return under, away


def audio_to_core(audio: Mapping[str, Any] | None) -> Audio | None:
    """The host's AUDIO (1, channels, n) to the core's."""
    from ...tav_core.video import Audio

    if audio is None:
        return None
    return Audio(audio["waveform"][0].detach().cpu().float(), int(audio["sample_rate"]))


def audio_from_core(audio: Audio | None) -> dict[str, Any] | None:
    """The core's sound to the host's AUDIO."""
    return None if audio is None else {"waveform": audio.samples[None], "sample_rate": audio.sample_rate}


def read_file(path: Path, **request: Any) -> tav_core.VideoClip:
    """Frames of a file as `tav_core.read_video` chooses them. Stop ends the reading before the next frame."""
    return tav_core.read_video(path, **request, before_frame=raise_if_interrupted)


def with_warnings(read: Callable[[], T]) -> tuple[T, str]:
    """What a call returns, and the core's warnings in it as text, for the node; they are logged too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = read()
    texts = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    for text in texts:
        logging.warning(text)
    return result, "\n".join(texts)


def read_any_video(video: Any, **request: Any) -> tav_core.VideoClip:
    """Frames of the host's VIDEO, as `tav_core.read_video` chooses them.

    A file on disk is read frame by frame, within the part that Video Slice chose. Frames of another node, and those of
    a file on a host before 0.23, which does not give that part, are chosen from memory: the host would encode them all
    for a stream.
    """
    from ...tav_core.video import choose_frames

    source = video.get_stream_source() if isinstance(video, InputImpl.VideoFromFile) else None
    if isinstance(source, str) and hasattr(video, "get_active_trim_window"):
        begin, seconds = video.get_active_trim_window()
        request["start"] = request.get("start", 0.0) + begin
        return read_file(Path(source), **request, end=begin + seconds if seconds else None)
    components = video.get_components()
    sound = audio_to_core(components.audio)
    return choose_frames(components.images[..., :3], components.frame_rate, sound, **request)


def mask_frames(mask: Tensor, count: int) -> np.ndarray:
    """The host's MASK, one for all frames or one for each, to (f, h, w)."""
    frames = mask[:1].expand(count, -1, -1) if len(mask) == 1 else mask[:count]
    return frames.cpu().numpy()


def plot_image(save_plot: Callable[[BytesIO, T], None], values: T) -> Tensor:
    """A plot that a function of the core writes to a file, as the host's IMAGE, (1, h, w, 3)."""
    file = BytesIO()
    save_plot(file, values)
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).float().div(255)[None]
