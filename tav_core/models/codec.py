"""Frames to latents and back, and prompts to embeddings.

A clip's latents are (1, c, f, h, w), multiplied by the autoencoder's scaling factor; text embeddings are (b, n, d).
"""

import string
from difflib import SequenceMatcher

import torch
from einops import rearrange

from ..checks import check_integer, check_range, check_tensor, check_text, check_type, raise_unless_finite
from ..unet.frames import check_clip
from .base import BaseModel

MAX_PROMPTS = 10_000  # encoded at once


@torch.no_grad()
def encode_prompts(model: BaseModel, prompts: list[str]) -> torch.Tensor:
    """Text embeddings of prompts, padded or cut to the encoder's length: (len(prompts), n, d).

    As in the published pipeline: end tokens up to 77, and no attention mask.

    Raises:
        TypeError, ValueError: if they are no strings, or there are none.
    """
    check_type("prompts", prompts, list, "give a list of strings")
    for prompt in prompts:
        check_text("a prompt", prompt)
    check_integer("the number of prompts", len(prompts), 1, MAX_PROMPTS)
    ids = _token_ids(model, prompts)
    return model.text_encoder(ids.to(model.text_encoder.device)).last_hidden_state


def _token_ids(model: BaseModel, prompts: list[str]) -> torch.Tensor:
    """The tokens of prompts, padded or cut to the encoder's length: (len(prompts), n)."""
    length = model.text_encoder.config.max_position_embeddings
    return model.tokenizer(
        prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids


def prompt_words(model: BaseModel, prompt: str) -> list[tuple[str, list[int]]]:
    """The words of a prompt in their order, each with the places of its tokens in the embedding.

    Punctuation is left out, and so are words beyond the encoder's length.

    Raises:
        TypeError, ValueError: if the prompt is no string.
    """
    check_text("a prompt", prompt)
    end = model.text_encoder.config.max_position_embeddings - 1  # at the last place stands the end token

    def count(text: str) -> int:
        return len(model.tokenizer(text, add_special_tokens=False).input_ids) if text else 0

    words, place = [], 1  # after the start token
    for word in prompt.split():
        name = word.strip(string.punctuation)
        first = place + count(word[: word.index(name)])
        places = list(range(first, min(first + count(name), end)))
        place += count(word)
        if places:
            words.append((name, places))
    return words


def align_prompts(model: BaseModel, caption: str, prompt: str) -> torch.Tensor:
    """For each token of a prompt the place of the token of the caption that it stands for, or -1: (n,) integers.

    Tokens that both have stand for each other, and so do as many tokens in place of as many others.
    """
    theirs, ours = (_token_ids(model, [text])[0].tolist() for text in (caption, prompt))
    places = torch.full((len(ours),), -1)
    for kind, start, stop, first, last in SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        if kind == "equal" or stop - start == last - first:
            places[first:last] = torch.arange(start, stop)
    return places


@torch.no_grad()
def encode_frames(model: BaseModel, frames: torch.Tensor) -> torch.Tensor:
    """Latents of a clip, encoded one frame at a time: the mode of the posterior, times the scaling factor.

    Arguments:
        frames: (f, h, w, 3) in [0, 1]; height and width multiples of `model.pixels_per_latent`.

    Returns:
        (1, c, f, h / 8, w / 8) for Stable Diffusion's autoencoder.

    Raises:
        TypeError, ValueError: if frames have another shape, size or range, or are not finite.
    """
    check_tensor("frames", frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"Expected frames of shape (f, h, w, 3) with at least one frame, got {tuple(frames.shape)}.")
    unit = model.pixels_per_latent
    if frames.shape[1] % unit or frames.shape[2] % unit or 0 in frames.shape:
        raise ValueError(
            f"Frames are {frames.shape[2]} x {frames.shape[1]} pixels; the autoencoder needs multiples of {unit}. "
            f"Try {frames.shape[2] // unit * unit} x {frames.shape[1] // unit * unit}."
        )
    check_range("frames", frames, 0, 1)
    vae = model.vae
    images = rearrange(frames, "f h w c -> f c h w").to(vae.device, vae.dtype) * 2 - 1
    latents = torch.cat([vae.encode(image).latent_dist.mode() for image in images.split(1)])
    return rearrange(latents * vae.config.scaling_factor, "f c h w -> 1 c f h w").float()


def decode_latents(model: BaseModel, latents: torch.Tensor, *, differentiable: bool = False) -> torch.Tensor:
    """Frames of a clip's latents, decoded one at a time.

    Arguments:
        latents: (1, c, f, h, w).
        differentiable: whether gradients reach the latents, which stores the activations of the decoder for all frames.

    Returns:
        (f, 8 h, 8 w, 3) for Stable Diffusion's autoencoder, float32 in [0, 1], on the CPU.

    Raises:
        FloatingPointError: if the pixels are not finite, as in float16 with some autoencoders.
        TypeError, ValueError: if latents have another shape or are not finite.
    """
    check_tensor("latents", latents)
    check_clip(latents, model.vae.config.latent_channels)
    check_integer("the number of clips to decode", len(latents), 1, 1)
    vae = model.vae
    with torch.set_grad_enabled(differentiable):
        scaled = rearrange(latents / vae.config.scaling_factor, "1 c f h w -> f c h w").to(vae.device, vae.dtype)
        images = torch.cat([vae.decode(z).sample.float().cpu() for z in scaled.split(1)])
        frames = rearrange((images / 2 + 0.5).clamp(0, 1), "f c h w -> f h w c")
    raise_unless_finite(images, "Decoding")
    return frames
