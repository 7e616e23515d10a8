"""Edits of a clip by what diffusers has: img2img frame by frame, and Text2Video-Zero held by depth."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline, StableDiffusionImg2ImgPipeline
from diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero import (
    CrossFrameAttnProcessor2_0,
)
from numpy.typing import NDArray
from torch import Tensor

from tav_core.models.base import BaseModel

Frames = NDArray[np.floating]


def image_to_image(
    model: BaseModel, frames: Frames, prompt: str, *, strength: float, guidance_scale: float, steps: int, seed: int
) -> Frames:
    """Each frame by itself, from the same noise: (f, h, w, 3) in [0, 1], as the clip."""
    pipeline = StableDiffusionImg2ImgPipeline(**_parts(model))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=[prompt] * len(frames),
        image=torch.from_numpy(frames).permute(0, 3, 1, 2).float(),
        strength=strength,
        guidance_scale=guidance_scale,
        num_inference_steps=steps,
        generator=[torch.Generator().manual_seed(seed) for _ in frames],
        output_type="np",
    ).images


def text_to_video_zero(
    model: BaseModel,
    control: ControlNetModel,
    hints: Frames,
    prompt: str,
    *,
    guidance_scale: float,
    steps: int,
    seed: int,
) -> Frames:
    """Text2Video-Zero under a ControlNet, as diffusers documents it (arXiv:2303.13439, section 4.2).

    Each frame starts from the same noise and attends to the first one. The processors are put back afterwards.

    Arguments:
        hints: of the frames, (f, h, w, 3) in [0, 1].
    """
    pipeline = StableDiffusionControlNetPipeline(**_parts(model), controlnet=control)
    pipeline.set_progress_bar_config(disable=True)
    before = [(network, dict(network.attn_processors)) for network in (model.unet, control)]
    try:
        for network, _ in before:
            network.set_attn_processor(CrossFrameAttnProcessor2_0(batch_size=2))
        return pipeline(
            prompt=[prompt] * len(hints),
            image=torch.from_numpy(hints).permute(0, 3, 1, 2).float(),
            latents=_same_noise(model, len(hints), seed),
            guidance_scale=guidance_scale,
            num_inference_steps=steps,
            output_type="np",
        ).images
    finally:
        for network, processors in before:
            network.set_attn_processor(processors)


def _same_noise(model: BaseModel, frames: int, seed: int) -> Tensor:
    config = model.unet.config
    shape = (1, config.in_channels, config.sample_size, config.sample_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).repeat(frames, 1, 1, 1)


def _parts(model: BaseModel) -> dict[str, object]:
    return dict(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler.from_config(model.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
