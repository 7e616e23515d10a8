"""Runs in ComfyUI's Python: a full-size Stable Diffusion 1.5 checkpoint and a LoRA for it, with made-up weights.

    python tools/make_checkpoint.py CHECKPOINT.safetensors LORA.safetensors        with COMFYUI_PATH set

Names and shapes are those of the host's own classes, built without memory; weights are float16, 2.1 GB.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["COMFYUI_PATH"])

import torch
from comfy.cli_args import args

args.cpu = True

import comfy.ops  # noqa: E402
import comfy.sd1_clip  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

UNET = dict(
    image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[2, 2, 2, 2], num_heads=8,
    channel_mult=[1, 2, 4, 4], use_spatial_transformer=True, transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
    transformer_depth_middle=1, transformer_depth_output=[1] * 9 + [0] * 3, context_dim=768, legacy=False,
)  # fmt: skip
VAE = dict(
    double_z=True, z_channels=4, resolution=256, in_channels=3, out_ch=3, ch=128, ch_mult=[1, 2, 4, 4],
    num_res_blocks=2, attn_resolutions=[], dropout=0.0,
)  # fmt: skip
PLACES = {
    "unet": ["down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", (640, 640)],
    "te": ["text_model_encoder_layers_0_self_attn_q_proj", (768, 768)],
}
RANK = 4


def shapes() -> dict[str, torch.Size]:
    """Names of a checkpoint's tensors and their shapes."""
    made = dict(dtype=torch.float16, device="meta", operations=comfy.ops.disable_weight_init)
    with torch.device("meta"):
        parts = {
            "model.diffusion_model.": UNetModel(**UNET, **made),
            "cond_stage_model.": comfy.sd1_clip.SDClipModel(device="meta", dtype=torch.float16),
            "first_stage_model.": AutoencoderKL(ddconfig=VAE, embed_dim=4),
        }
    return {
        prefix + name: parameter.shape
        for prefix, module in parts.items()
        for name, parameter in module.named_parameters()
        if name not in ("logit_scale", "transformer.text_projection.weight")
    }


def made_up(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """A weight that keeps activations near 1."""
    weight = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        weight *= shape[1:].numel() ** -0.5
    else:
        weight = 0.1 * weight + name.endswith("weight")
    return weight.half()


def lora(generator: torch.Generator) -> dict[str, torch.Tensor]:
    weights = {}
    for model, (place, (height, width)) in PLACES.items():
        down, up = torch.Size((RANK, width)), torch.Size((height, RANK))
        weights[f"lora_{model}_{place}.lora_down.weight"] = made_up("down", down, generator)
        weights[f"lora_{model}_{place}.lora_up.weight"] = made_up("up", up, generator)
    return weights


def main(checkpoint: Path, lora_file: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    save_file({name: made_up(name, shape, generator) for name, shape in shapes().items()}, checkpoint)
    save_file(lora(generator), lora_file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
