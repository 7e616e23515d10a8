"""A tiny SDXL in diffusers' layout, with made-up weights: SDXL's block layout at small width."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tav_core.models.base import ASSETS

TOKENIZER = ASSETS / "demo-model" / "tokenizer"
WIDTHS, POOLED, TIME_EMBED = (16, 24), 20, 8  # of both text encoders, of the pooled text, of each size
UNET = dict(
    sample_size=8,
    block_out_channels=(16, 32, 32),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=(1, 2, 3),
    attention_head_dim=(2, 4, 4),
    layers_per_block=2,
    norm_num_groups=8,
    use_linear_projection=True,
    cross_attention_dim=sum(WIDTHS),
    addition_embed_type="text_time",
    addition_time_embed_dim=TIME_EMBED,
    projection_class_embeddings_input_dim=POOLED + 6 * TIME_EMBED,
)
VAE = dict(
    block_out_channels=(8, 8, 8, 8),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    norm_num_groups=4,
    layers_per_block=1,
    scaling_factor=0.13025,
)
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def text_config(width: int, hidden_act: str, pooled: int) -> CLIPTextConfig:
    size = dict(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3)
    vocabulary = dict(vocab_size=652, bos_token_id=650, eos_token_id=651, pad_token_id=651)
    heads = max(1, width // 64)
    return CLIPTextConfig(**size, **vocabulary, num_attention_heads=heads, hidden_act=hidden_act, projection_dim=pooled)


def make_pipeline(
    seed: int = 0,
    *,
    unet: Mapping[str, object] = {},
    vae: Mapping[str, object] = {},
    widths: tuple[int, int] = WIDTHS,
    hidden_act: tuple[str, str] = ("quick_gelu", "gelu"),
    pooled: int = POOLED,
    **scheduler: object,
) -> StableDiffusionXLPipeline:
    """The pipeline; `unet` and `vae` change their configurations."""
    text = [text_config(width, act, pooled) for width, act in zip(widths, hidden_act, strict=True)]
    additions = dict(cross_attention_dim=sum(widths), projection_class_embeddings_input_dim=pooled + 6 * TIME_EMBED)
    levels = len(vae.get("block_out_channels", VAE["block_out_channels"]))
    blocks = {
        f"{way}_block_types": (f"{kind}Block2D",) * levels
        for way, kind in (("down", "DownEncoder"), ("up", "UpDecoder"))
    }
    groups = dict(norm_num_groups=32, layers_per_block=2) if vae else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StableDiffusionXLPipeline(
            vae=AutoencoderKL(**VAE | groups | blocks | vae),
            text_encoder=CLIPTextModel(text[0]).eval(),
            text_encoder_2=CLIPTextModelWithProjection(text[1]).eval(),
            tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER),
            tokenizer_2=CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!"),
            unet=UNet2DConditionModel(**UNET | additions | unet).eval(),
            scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1, **scheduler),
            force_zeros_for_empty_prompt=False,
        )


def make_folder(folder: Path, seed: int = 0, **changes: object) -> Path:
    make_pipeline(seed, **changes).save_pretrained(folder)
    assert not list(folder.rglob("*.bin"))
    return folder


def without(folder: Path, part: str) -> Path:
    shutil.rmtree(folder / part)
    return folder
