"""Stable Diffusion 1.5 in diffusers' layout, with its blocks and made-up weights at a small width."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from tests.sdxl import BETAS, TOKENIZER, VAE, text_config

TEXT_WIDTH = 16
UNET = dict(
    sample_size=64,
    block_out_channels=(16, 32, 32, 32),
    attention_head_dim=8,
    norm_num_groups=8,
    cross_attention_dim=TEXT_WIDTH,
)


def make_folder(folder: Path, seed: int = 0) -> Path:
    """The parts of Stable Diffusion 1.5, with its scheduler, as `save_pretrained` writes them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**VAE | dict(scaling_factor=0.18215)),
            "text_encoder": CLIPTextModel(text_config(TEXT_WIDTH, "quick_gelu", TEXT_WIDTH)),
            "tokenizer": CLIPTokenizer.from_pretrained(TOKENIZER),
            "scheduler": PNDMScheduler(**BETAS, steps_offset=1, skip_prk_steps=True),
        }
        for name, part in parts.items():
            part.save_pretrained(folder / name)
    return folder
