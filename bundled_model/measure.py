"""Measure a text-to-image model of the drawn world: sample pictures of prompts, and count the words they follow."""

from __future__ import annotations

import numpy as np
import torch

from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.diffusion.ddim import ddim_step
from tav_core.diffusion.schedule import NoiseSchedule, plain_noise
from tav_core.models.base import BaseModel
from tav_core.models.codec import decode_latents, encode_prompts


@torch.no_grad()
def sample_images(
    model: BaseModel, prompts: list[str], num_inference_steps: int, guidance_scale: float, seed: int
) -> torch.Tensor:
    """One picture a prompt, by the image UNet alone: (n, h, w, 3) in [0, 1]."""
    schedule = NoiseSchedule.from_scheduler(model.scheduler)
    size = model.unet.config.sample_size
    latents = plain_noise((len(prompts), model.unet.config.in_channels, 1, size, size), seed)[:, :, 0]
    embeddings = encode_prompts(model, prompts + [""] * len(prompts))
    stride = schedule.stride(num_inference_steps)
    for t in schedule.timesteps(num_inference_steps):
        positive, negative = model.unet(torch.cat([latents, latents]), t, embeddings).sample.chunk(2)
        guided = negative + guidance_scale * (positive - negative)
        latents = ddim_step(latents, guided, schedule.alpha(t), schedule.alpha(t - stride), schedule.prediction_type)
    return decode_latents(model, latents[None].transpose(1, 2))


def words_followed(readings: list[judge.Reading], scenes: list[world.Scene]) -> dict[str, float]:
    """Shares of pictures with the right shape, colour and background, and with all three."""
    pairs = list(zip(readings, scenes, strict=True))
    words = ("shape", "colour", "background")
    shares = {word: float(np.mean([getattr(r, word) == getattr(s, word) for r, s in pairs])) for word in words}
    return shares | {"all": float(np.mean([r.shows(s) for r, s in pairs]))}
