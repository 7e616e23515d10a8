"""Frames to latents and back, and prompts to embeddings.

A clip's latents are (1, c, f, h, w), multiplied by the autoencoder's scaling factor; text embeddings are (b, n, d).
"""

import string
from difflib import SequenceMatcher
from math import lcm
from typing import Any

import torch
from einops import rearrange

from ..checks import check_integer, check_range, check_tensor, check_text, check_type, raise_unless_finite
from ..conditioning import Conditioning
from ..unet.added import TEXT_EMBEDS, TIME_IDS
from ..unet.frames import check_clip
from .base import BaseModel

MAX_PROMPTS = 10_000  # encoded at once
MAX_SIDE = 2**16  # in pixels
MAX_CHUNKS = 256  # of a prompt, and of prompts of unlike length that are repeated to one


@torch.no_grad()
def encode_prompts(
    model: BaseModel, prompts: list[str], size: tuple[int, int] | None = None
) -> torch.Tensor | Conditioning:
    """Text embeddings of prompts: (len(prompts), n, d). Those of SDXL come in a Conditioning.

    As in the published pipeline: end tokens up to 77, and no attention mask. A prompt of more than 75 tokens is encoded
    in chunks of 75, next to each other, as ComfyUI does; n is 77 times their number. Brackets and all other characters
    are literal. Prompts of unlike length are repeated to the same one, which changes no attention to them.

    For SDXL the layer before the last of both text encoders is taken, side by side, and the pooled text of the second
    one, from the first chunk. The empty prompt is encoded as any other.

    Arguments:
        model: the base model.
        prompts: one for each clip.
        size: height and width of the clip in pixels, which SDXL is told as the size of the original and of the target,
            without a crop; None for the size that the model was trained at. Others do not read it.

    Raises:
        TypeError, ValueError: if they are no strings, or there are none, or too long, or the size is none.
    """
    check_type("prompts", prompts, list, "give a list of strings")
    for prompt in prompts:
        check_text("a prompt", prompt)
    check_integer("the number of prompts", len(prompts), 1, MAX_PROMPTS)
    if model.text_encoder_2 is not None:
        return _encode_for_sdxl(model, prompts, size)
    return _encode(model, prompts)[0]


def _encode(model: BaseModel, prompts: list[str], second: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embeddings (b, n, d) by one text encoder, of SDXL by the layer before its last; the second one pools: (b, p)."""
    chunks = [_token_chunks(model, prompt, second) for prompt in prompts]
    count = lcm(*(len(ids) for ids in chunks))
    if count > MAX_CHUNKS:
        raise ValueError(
            f"The prompts have {', '.join(str(len(ids)) for ids in chunks[:3])}... chunks of tokens; {MAX_CHUNKS} fit "
            "beside each other: shorten them, or encode them one by one."
        )
    encoder: Any = model.text_encoder_2 if second else model.text_encoder
    lengths, is_xl = [len(ids) for ids in chunks], model.text_encoder_2 is not None
    out = encoder(torch.cat(chunks).to(encoder.device), output_hidden_states=is_xl)
    texts = (out.hidden_states[-2] if is_xl else out.last_hidden_state).split(lengths)
    pooled = torch.stack([embeds[0] for embeds in out.text_embeds.split(lengths)]) if second else None
    return torch.stack([text.flatten(0, 1).repeat(count // len(text), 1) for text in texts]), pooled


def _encode_for_sdxl(model: BaseModel, prompts: list[str], size: tuple[int, int] | None) -> Conditioning:
    """See `encode_prompts`."""
    height, width = size or (model.image_size, model.image_size)
    for name, side in (("The height", height), ("The width", width)):
        check_integer(f"{name} that SDXL is told", side, 1, MAX_SIDE)
    (first, _), (second, pooled) = _encode(model, prompts), _encode(model, prompts, second=True)
    assert pooled is not None, "the second encoder pools"
    sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=pooled.device)
    added = {TEXT_EMBEDS: pooled, TIME_IDS: sizes.expand(len(prompts), -1)}
    return Conditioning(torch.cat([first, second.to(first)], dim=-1), added=added)


def _token_chunks(model: BaseModel, prompt: str, second: bool = False) -> torch.Tensor:
    """The tokens of a prompt, each chunk between a start and an end token and padded: (chunks, length)."""
    encoder, tokenizer = model.text_encoder, model.tokenizer
    if second:
        assert model.text_encoder_2 is not None and model.tokenizer_2 is not None, "SDXL has two"
        encoder, tokenizer = model.text_encoder_2, model.tokenizer_2
    length = encoder.config.max_position_embeddings
    start, *_, end = tokenizer("").input_ids
    ids = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    chunks = [ids[first : first + length - 2] for first in range(0, max(1, len(ids)), length - 2)]
    padding = [tokenizer.pad_token_id] * length
    return torch.tensor([[start, *chunk, end, *padding][:length] for chunk in chunks])


def prompt_words(model: BaseModel, prompt: str) -> list[tuple[str, list[int]]]:
    """The words of a prompt in their order, each with the places of its tokens in the embedding.

    Punctuation is left out.

    Raises:
        TypeError, ValueError: if the prompt is no string.
    """
    check_text("a prompt", prompt)
    length = model.text_encoder.config.max_position_embeddings

    def count(text: str) -> int:
        return len(model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids) if text else 0

    words, token = [], 0
    for word in prompt.split():
        name = word.strip(string.punctuation)
        first = token + count(word[: word.index(name)])
        places = [_place(index, length) for index in range(first, first + count(name))]
        token += count(word)
        if places:
            words.append((name, places))
    return words


def _place(index: int, length: int) -> int:
    """The place in the embedding of a prompt's token, by its index among the tokens without starts and ends."""
    chunk, within = divmod(index, length - 2)
    return chunk * length + 1 + within


def align_prompts(model: BaseModel, caption: str, prompt: str) -> torch.Tensor:
    """For each token of a prompt the place of the token of the caption that it stands for, or -1: (n,) integers.

    Tokens that both have stand for each other, and so do as many tokens in place of as many others.
    """
    theirs, ours = (_token_chunks(model, text).flatten().tolist() for text in (caption, prompt))
    places = torch.full((len(ours),), -1)
    for _, start, stop, first, last in SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        if stop - start == last - first:  # equal ones, or as many others
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
