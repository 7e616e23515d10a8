"""LATENT, CONDITIONING, AUDIO and VIDEO: the host's conventions to and from those of the core.

The host's latents are unscaled, (f, c, h, w) with the frames as a batch; the core's are scaled, (1, c, f, h, w). Every
tensor that comes in is copied out of inference mode, in which it could not be trained on.
"""

from collections.abc import Mapping
from typing import Any

import comfy.utils
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...tav_core import VideoClip, read_video
from ...tav_core.video import Audio, VideoError
from .handle import TavModel

INVERTED = "tav_inverted_steps"  # kept in the LATENT that an inversion gives: its number of steps
REMEDIES = {
    "area": "remove Conditioning (Set Area)",
    "strength": "remove Conditioning (Set Area Strength)",
    "mask": "remove Conditioning (Set Mask)",
    "start_percent": "remove ConditioningSetTimestepRange",
    "end_percent": "remove ConditioningSetTimestepRange",
    "clip_start_percent": "remove the hooks that schedule the CLIP",
    "hooks": "remove the hooks (Set CLIP Hooks, Create Hook LoRA); load a LoRA with Load LoRA",
    "control": "remove Apply ControlNet",
    "gligen": "remove GLIGENTextBoxApply",
    "unclip_conditioning": "remove unCLIPConditioning",
    "concat_latent_image": "remove InpaintModelConditioning or InstructPixToPixConditioning",
    "reference_latents": "remove ReferenceLatent",
}
HARMLESS = {"pooled_output", "set_area_to_bounds", "control_apply_to_uncond"}


def clip_latents(latents: Mapping[str, Any], model: TavModel) -> Tensor:
    """The host's LATENT, frames as a batch, to scaled latents of one clip (1, c, f, h, w).

    Raises:
        ValueError: if it is no batch of images, or carries a mask.
    """
    samples = latents["samples"]
    if samples.ndim != 4:
        raise ValueError(
            f"LATENT has shape {tuple(samples.shape)}; expected the frames of one clip as a batch of images, (frames, "
            "channels, height, width). Encode IMAGE with VAE Encode and the VAE of this model's checkpoint."
        )
    if latents.get("noise_mask") is not None:
        raise ValueError("LATENT carries a noise mask, which is not supported: remove Set Latent Noise Mask.")
    with torch.inference_mode(False):
        return rearrange(samples.detach().clone().float() * model.scale, "f c h w -> 1 c f h w").contiguous()


def host_latents(clip: Tensor, model: TavModel, inverted_steps: int | None = None) -> dict[str, Any]:
    """Scaled latents of one clip (1, c, f, h, w) to the host's LATENT on the CPU."""
    samples = rearrange(clip.detach().cpu() / model.scale, "1 c f h w -> f c h w").contiguous()
    return {"samples": samples} if inverted_steps is None else {"samples": samples, INVERTED: inverted_steps}


def inverted_start(latents: Mapping[str, Any], num_inference_steps: int) -> None:
    """Refuse a LATENT that sampling cannot start from.

    Raises:
        ValueError: if it was inverted with another number of steps, or is empty.
    """
    steps = latents.get(INVERTED, num_inference_steps)
    if steps != num_inference_steps:
        raise ValueError(
            f"The clip was inverted with {steps} steps and is sampled with {num_inference_steps}. Set steps of DDIM "
            "Invert and of Sample to the same number."
        )
    if not latents["samples"].any():
        raise ValueError("LATENT is empty. Connect the LATENT of DDIM Invert, or set start_from to fresh noise.")


def embeddings(conditioning: list, name: str) -> Tensor:
    """The host's CONDITIONING to embeddings (1, n, d).

    Arguments:
        name: of the input, for the message.

    Raises:
        ValueError: if it holds more than one prompt for the whole picture and the whole time.
    """
    if len(conditioning) != 1:
        raise ValueError(
            f"{name} holds {len(conditioning)} entries; one is supported. Remove Conditioning (Combine), and write all "
            "into one prompt."
        )
    tensor, extras = conditioning[0]
    for key, value in extras.items():
        if value is not None and key not in HARMLESS:
            remedy = REMEDIES.get(key, "connect CLIP Text Encode directly")
            raise ValueError(f"{name} carries {key!r}, which is not supported: {remedy}.")
    if tensor.ndim != 3 or tensor.shape[0] != 1:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; expected one prompt, (1, tokens, width), from CLIP Text Encode."
        )
    with torch.inference_mode(False):
        return tensor.detach().clone().float()


def audio_to_core(audio: Mapping[str, Any] | None) -> Audio | None:
    """The host's AUDIO (1, channels, n) to the core's."""
    if audio is None:
        return None
    return Audio(audio["waveform"][0].detach().cpu().float(), int(audio["sample_rate"]))


def audio_from_core(audio: Audio | None) -> dict[str, Any] | None:
    """The core's sound to the host's AUDIO."""
    return None if audio is None else {"waveform": audio.samples[None], "sample_rate": audio.sample_rate}


def read_any_video(video: Any, **request: Any) -> VideoClip:
    """Frames of the host's VIDEO, as `tav_core.read_video` chooses them.

    A whole file is read from its place on disk, frame by frame; frames that another node made are chosen from memory.
    """
    source = video.get_stream_source() if hasattr(video, "get_stream_source") else None
    window = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
    if isinstance(source, str) and tuple(window) == (0.0, 0.0):
        return read_video(source, **request)
    components = video.get_components()
    return _chosen(components.images[..., :3], components.frame_rate, audio_to_core(components.audio), **request)


def _chosen(
    images: Tensor,
    rate: Any,
    audio: Audio | None,
    *,
    num_frames: int | None,
    start: float,
    stride: int,
    width: int,
    height: int,
    fit: str,
) -> VideoClip:
    first = round(start * float(rate))
    indices = range(first, len(images), stride)[:num_frames]
    if not indices or len(indices) < (num_frames or 1):
        raise VideoError(
            f"VIDEO has {len(indices)} frames from {start:g} s with stride {stride}, and num_frames={num_frames} was "
            f"asked: ask for at most {len(indices)}, or an earlier start."
        )
    pictures = images[indices.start : indices[-1] + 1 : stride].movedim(-1, 1)
    pictures = _fitted(pictures, width, height, fit).movedim(1, -1).clamp(0, 1).float().contiguous()
    sound = None
    if audio is not None:
        begin = round(indices[0] / rate * audio.sample_rate)
        end = begin + round(len(indices) * stride / rate * audio.sample_rate)
        sound = Audio(audio.samples[:, begin:end], audio.sample_rate)
    times = tuple(float(index / rate) for index in indices)
    return VideoClip(pictures, rate / stride, sound, images.shape[2], images.shape[1], times)


def _fitted(pictures: Tensor, width: int, height: int, fit: str) -> Tensor:
    """(f, 3, h, w) to (f, 3, height, width)."""
    if fit != "pad":
        return comfy.utils.common_upscale(pictures, width, height, "area", "center" if fit == "crop" else "disabled")
    scale = min(width / pictures.shape[3], height / pictures.shape[2])
    inner_width, inner_height = round(pictures.shape[3] * scale), round(pictures.shape[2] * scale)
    inner = comfy.utils.common_upscale(pictures, inner_width, inner_height, "area", "disabled")
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    return F.pad(inner, (left, width - inner_width - left, top, height - inner_height - top))
