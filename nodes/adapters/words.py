"""The words of a prompt, as the host's CLIP makes tokens of them."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .data import embeddings

if TYPE_CHECKING:
    from ...tav_core import Conditioning
    from .handle import TavModel

WORD_ENDS = "</w>"  # of the last token of a word in CLIP's vocabulary
STARTS, ENDS = "<|startoftext|>", "<|endoftext|>"


def encode_words(
    clip: Any, prompt: str, model: TavModel, latents: Tensor
) -> tuple[Tensor | Conditioning, list[tuple[str, list[int]]]]:
    """The embedding of a prompt (1, n, d), and its words, each with the places of its tokens in it.

    Punctuation and textual inversions are left out.

    Arguments:
        clip: the host's CLIP.
        model, latents: as `embeddings` takes them.

    Raises:
        ValueError: there is no word, or CLIP is no text encoder of Stable Diffusion 1, 2 or XL.
    """
    tokens = clip.tokenize(prompt)
    if not (len(tokens) == 1 or tokens.keys() == {"g", "l"}):
        raise ValueError("CLIP is not that of Stable Diffusion 1, 2 or XL: connect the one of the model's checkpoint.")
    chunks = tokens["l"] if len(tokens) == 2 else next(iter(tokens.values()))
    words: list[tuple[str, list[int]]] = []
    place = 0
    for chunk in chunks:
        words += _words_of(clip, chunk, place)
        place += len(chunk)
    if not words:
        raise ValueError("The prompt has no word: write what the clip shows.")
    return embeddings(clip.encode_from_tokens_scheduled(tokens), "prompt", model, latents), words


def _words_of(clip: Any, chunk: list[tuple], first: int) -> list[tuple[str, list[int]]]:
    """The words up to the end token of a chunk, at whose first token stands the place `first`."""
    words: list[tuple[str, list[int]]] = []
    spelled, places = "", []
    for place, (token, *_) in enumerate(chunk, first):
        if not isinstance(token, int):  # a vector of a textual inversion
            continue
        ((_, text),) = clip.tokenizer.untokenize([(token,)])
        if text == ENDS:
            break
        if text == STARTS:
            continue
        spelled, places = spelled + text.removesuffix(WORD_ENDS), [*places, place]
        if text.endswith(WORD_ENDS):
            if spelled.strip(string.punctuation):
                words.append((spelled, places))
            spelled, places = "", []
    return words
