"""The gates of the bundled model: how often a reader net finds the words of a caption in the picture sampled from it.

    python -m benchmarks fidelity words [--pictures 144]

Captions of random words, 20 DDIM steps, guidance 4. The reader itself finds 99 % of the words in drawn pictures that it
was not trained on, of actions 90 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler

from benchmarks import harness, results
from bundled_model.reader import READER, load_reader, read
from tav_core import load_model
from tav_core.conditioning import as_conditioning
from tav_core.demo.world import caption
from tav_core.demo.world.scene import random_words
from tav_core.models.base import DEMO_MODEL, BaseModel
from tav_core.models.codec import decode_latents, encode_prompts

GATES = {"figure": 0.90, "coat": 0.95, "action": 0.80, "place": 0.95, "style": 0.95}
STEPS, GUIDANCE, AT_ONCE = 20, 4.0, 24


def run(arguments: list[str]) -> str:
    """Sample, read, and make the table."""
    args = _parse(arguments)
    torch.set_num_threads(1)
    model, reader, rng = load_model(args.model), load_reader(args.reader), np.random.default_rng(args.seed)
    asked = [random_words(rng) for _ in range(args.pictures)]
    found = []
    for first in range(0, len(asked), AT_ONCE):
        prompts = [caption(words) for words in asked[first : first + AT_ONCE]]
        found += read(reader, sample_pictures(model, prompts, args.seed + first))[0]
    pairs = list(zip(found, asked, strict=True))
    hits = {kind: float(np.mean([ours[kind] == theirs[kind] for ours, theirs in pairs])) for kind in GATES}
    rows = [[kind, f"{hits[kind]:.3f}", f"{gate:.2f}"] for kind, gate in GATES.items()]
    return results.report(harness.machine(), results.table(["word", "found", "gate"], rows))


@torch.no_grad()
def sample_pictures(model: BaseModel, prompts: list[str], seed: int) -> np.ndarray:
    """Pictures (n, 128, 128, 3) in [0, 1] of the image model, by diffusers' DDIM with classifier-free guidance."""
    scheduler = DDIMScheduler.from_config(model.scheduler.config)
    scheduler.set_timesteps(STEPS)
    text = torch.cat(
        [as_conditioning(encode_prompts(model, [words])).text for words in [*prompts, *[""] * len(prompts)]]
    )
    channels, side = model.unet.config["in_channels"], model.unet.config["sample_size"]
    latents = torch.randn((len(prompts), channels, side, side), generator=torch.Generator().manual_seed(seed))
    for timestep in scheduler.timesteps:
        positive, negative = model.unet(torch.cat([latents, latents]), timestep, text).sample.chunk(2)
        latents = scheduler.step(negative + GUIDANCE * (positive - negative), timestep, latents).prev_sample
    return decode_latents(model, latents.transpose(0, 1)[None]).numpy()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--reader", type=Path, default=READER, help="as bundled_model.train_reader writes it")
    parser.add_argument("--pictures", type=int, default=144)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)
