"""The tokenizer and the text encoder of the bundled demo model.

The tokenizer is CLIP's byte-level BPE with a small vocabulary: each word of the drawn world is one token, other text
falls back to bytes. The text encoder is a two-layer CLIPTextModel. Before it trains together with the UNet it learns to
encode a caption's words in all later positions: cross-attention starts as a mean over all 77 positions, in which a word
that is in one of them alone hardly counts.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tav_core.demo import shapes as world

MAX_LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
CAPTION_END = 12  # the longest caption ends before this position
WORDS = (world.SHAPES, tuple(world.COLOURS), tuple(world.BACKGROUNDS))
OTHER_WORDS = (
    *("a", "an", "on", "background", "the", "is", "in", "of", "and", "moving", "flying", "with", "to", "picture"),
)


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write vocab.json and merges.txt into `folder` and load the tokenizer from them."""
    symbols = sorted(ByteLevel.alphabet())
    vocabulary = symbols + [s + "</w>" for s in symbols]
    merges: list[tuple[str, str]] = []
    words = [[*w[:-1], w[-1] + "</w>"] for w in (*OTHER_WORDS, *world.SHAPES, *world.COLOURS, *world.BACKGROUNDS)]
    while unfinished := next((w for w in words if len(w) > 1), None):
        pair = (unfinished[0], unfinished[1])
        merges.append(pair)
        vocabulary.append("".join(pair))
        words = [_merge(word, pair) for word in words]
    vocabulary = list(dict.fromkeys(vocabulary)) + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").unlink(missing_ok=True)  # transformers would read it instead of the files written here
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


def vocabulary(folder: Path) -> dict[str, int]:
    """Tokens of a model folder, and their numbers."""
    return CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab()


def adapt_encoder(folder: Path, known: dict[str, int], tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder of a model trained on other words perhaps: tokens of both vocabularies keep their embedding.

    Arguments:
        folder: of the model.
        known: its vocabulary.
        tokenizer: the new one.
    """
    trained = CLIPTextModel.from_pretrained(folder / "text_encoder")
    encoder = build_text_encoder(tokenizer, trained.config.hidden_size)
    weights = trained.state_dict()
    name = next(key for key in weights if key.endswith("token_embedding.weight"))
    rows = encoder.state_dict()[name].clone()
    for token, index in tokenizer.get_vocab().items():
        if token in known:
            rows[index] = weights[name][known[token]]
    encoder.load_state_dict(weights | {name: rows})
    return encoder


def random_caption(scene: world.Scene, rng: np.random.Generator) -> str:
    """Mostly the full caption; one in seven is empty, for guidance and inversion; one in ten lacks words."""
    kind = rng.random()
    if kind < 0.15:
        return ""
    if kind < 0.2:
        return f"a {scene.shape} on a {scene.background} background"
    if kind < 0.25:
        return scene.caption.split(" on ")[0]
    return scene.caption


def teach_words(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, steps: int, seed: int) -> float:
    """Train the encoder so that a linear layer reads the words of a caption from every position after the last word.

    Returns:
        The share of words read correctly in the last step.
    """
    rng = np.random.default_rng(seed)
    heads = torch.nn.ModuleList(torch.nn.Linear(encoder.config.hidden_size, len(words) + 1) for words in WORDS)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=2e-3, weight_decay=0.01)
    correct = 0.0
    for _ in range(steps):
        captions = [random_caption(world.random_scene(rng), rng) for _ in range(32)]
        states = encoder(tokenize(tokenizer, captions)).last_hidden_state[:, CAPTION_END:]  # (b, 65, width)
        loss, correct = _read_words(heads, states, captions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return correct


def _read_words(heads: torch.nn.ModuleList, states: torch.Tensor, captions: list[str]) -> tuple[torch.Tensor, float]:
    """The loss of reading each kind of word from states (b, n, width), and the share that is read correctly."""
    loss, shares = torch.zeros(()), []
    for head, words in zip(heads, WORDS, strict=True):
        target = [next((i for i, w in enumerate(words) if w in c.split()), len(words)) for c in captions]
        labels = torch.tensor(target)[:, None].expand(-1, states.shape[1])
        logits = head(states)
        loss = loss + torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        shares.append((logits.argmax(-1) == labels).float().mean())
    return loss, float(torch.stack(shares).mean())
