"""The tokenizer and the text encoder of the bundled demo model.

The tokenizer is CLIP's byte-level BPE with a small vocabulary: each word of the demo world is one token, any other text
falls back to bytes. The text encoder is a two-layer CLIPTextModel. Before it trains along with the UNet it learns to
carry a caption's words to its later positions: cross-attention starts out as a mean over all 77 positions, and a word
that only one of them knows is hard to find there.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tav_core.demo import world
from tav_core.demo.world.scene import random_words

MAX_LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
FIRST_FREE = 16  # position after the last token of the longest caption


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write vocab.json and merges.txt into `folder` and load the tokenizer from them."""
    symbols = sorted(ByteLevel.alphabet())
    vocabulary = symbols + [s + "</w>" for s in symbols]
    merges: list[tuple[str, str]] = []
    words = [[*w[:-1], w[-1] + "</w>"] for w in world.caption_words()]
    while unfinished := next((w for w in words if len(w) > 1), None):
        pair = (unfinished[0], unfinished[1])
        merges.append(pair)
        vocabulary.append("".join(pair))
        words = [_merge(word, pair) for word in words]
    vocabulary = list(dict.fromkeys(vocabulary)) + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").unlink(missing_ok=True)  # it would be read in place of the files written here
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _merge(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in word:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids (b, 77), padded with the end token as Stable Diffusion does."""
    padded = tokenizer(captions, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt")
    return padded.input_ids


def build_text_encoder(tokenizer: CLIPTokenizer, width: int = 64) -> CLIPTextModel:
    end = tokenizer.convert_tokens_to_ids(END)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.convert_tokens_to_ids(START),
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModel(config)


def random_caption(words: world.Words, rng: np.random.Generator, dropout: float) -> str:
    """One of the wordings, or nothing with probability `dropout`, for guidance and inversion."""
    return "" if rng.random() < dropout else world.caption(words, int(rng.integers(world.NUM_WORDINGS)))


def teach_words(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, steps: int, seed: int) -> float:
    """Train the encoder so that the words of a caption can be read, linearly, off every position after the last word.

    Returns:
        The share of words read rightly in the last step.
    """
    rng = np.random.default_rng(seed)
    sizes = [len(words) + 1 for words in world.VOCABULARY.values()]
    heads = nn.ModuleList(nn.Linear(encoder.config.hidden_size, size) for size in sizes)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=2e-3, weight_decay=0.01)
    right = 0.0
    for _ in range(steps):
        captions, labels = _labelled(rng, 32)
        states = encoder(tokenize(tokenizer, captions)).last_hidden_state[:, FIRST_FREE:]  # (b, 61, width)
        loss, shares = torch.zeros(()), []
        for head, target in zip(heads, labels.T, strict=True):
            logits, wanted = head(states), target[:, None].expand(-1, states.shape[1])
            loss = loss + nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
            shares.append((logits.argmax(-1) == wanted).float().mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = float(torch.stack(shares).mean())
    return right


def _labelled(rng: np.random.Generator, count: int) -> tuple[list[str], torch.Tensor]:
    """Captions, a tenth of them empty, and the index of each of their words, (count, 5); one past the last for none."""
    captions, labels = [], []
    for _ in range(count):
        words = random_words(rng)
        captions.append(random_caption(words, rng, 0.1))
        said = [options.index(words[kind]) for kind, options in world.VOCABULARY.items()]
        labels.append(said if captions[-1] else [len(options) for options in world.VOCABULARY.values()])
    return captions, torch.tensor(labels)
