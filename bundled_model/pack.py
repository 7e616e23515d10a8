"""Pack the trained weights as shipped: a diffusers pipeline folder in float16, with its model card.

    python -m bundled_model.pack --model build/unet/model --output tav_core/assets/demo-model

Tokenizer and noise schedule are made from the code, since no training changes them. preview.json holds the linear map
from latents to colours that ComfyUI's previews use, by least squares over drawn pictures.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from bundled_model.text_encoder import build_tokenizer
from bundled_model.train_text_to_image import SCHEDULER_CONFIG, write_index
from tav_core.demo.world import SIZE, draw_frames, random_scene

CARD = Path(__file__).with_name("MODEL_CARD.md")
MOST_BYTES = 30e6
PREVIEWED = 48  # pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder with unet and text_encoder")
    parser.add_argument("--vae", type=Path, help="folder of the autoencoder; by default vae within --model")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if args.model.resolve().is_relative_to(args.output.resolve()):
        parser.error("--output is emptied first: give another folder than --model")
    pack(args.model, args.vae or args.model / "vae", args.output)
    print(f"{folder_bytes(args.output) / 1e6:.1f} MB")


def pack(model: Path, vae: Path, output: Path) -> None:
    """Write a model folder; the output is emptied once all of the weights were read.

    Raises:
        ValueError: the folder would be larger than MOST_BYTES.
    """
    parts = read_parts(model, vae)
    size = sum(2 * part.num_parameters() for part in parts.values())
    if size > MOST_BYTES:
        raise ValueError(f"The weights take {size / 1e6:.1f} MB, and at most {MOST_BYTES / 1e6:.0f} MB ship.")
    if output.exists():
        shutil.rmtree(output)
    for name, part in parts.items():
        part.save_pretrained(output / name)
    for network in ("unet", "vae"):
        config = output / network / "config.json"  # diffusers writes the folder that it loaded from
        values = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    _name_as_published(output / "text_encoder" / "model.safetensors")
    build_tokenizer(output / "tokenizer")
    DDIMScheduler(**SCHEDULER_CONFIG).save_pretrained(output / "scheduler")
    write_index(output)
    (output / "preview.json").write_text(json.dumps(preview(parts["vae"].float())) + "\n")
    shutil.copy(CARD, output / "README.md")


def read_parts(model: Path, vae: Path) -> dict[str, Any]:
    """Each network by its folder's name, in float16."""
    half = dict(local_files_only=True, torch_dtype=torch.float16)
    return {
        "unet": UNet2DConditionModel.from_pretrained(model / "unet", **half),
        "vae": AutoencoderKL.from_pretrained(vae, **half),
        "text_encoder": CLIPTextModel.from_pretrained(
            model / "text_encoder", local_files_only=True, dtype=torch.float16
        ),
    }


@torch.no_grad()
def preview(vae: AutoencoderKL) -> dict[str, list]:
    """The linear map from scaled latents to the mean colour of the pixels below each, by least squares.

    Returns:
        factors: (channels, 3), and bias: (3,), for colours in [-1, 1].
    """
    drawn = np.concatenate([draw_frames(*random_scene(seed), 1)[0] for seed in range(PREVIEWED)])
    pixels = torch.from_numpy(drawn).permute(0, 3, 1, 2) * 2 - 1
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in pixels.split(8)]) * vae.config.scaling_factor
    colours = torch.nn.functional.avg_pool2d(pixels, SIZE // latents.shape[-1])
    rows = latents.movedim(1, -1).flatten(0, 2)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    found = torch.linalg.lstsq(rows, colours.movedim(1, -1).flatten(0, 2)).solution
    *factors, bias = [[round(value, 4) for value in row] for row in found.tolist()]
    return {"factors": factors, "bias": bias}


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*"))


def _name_as_published(file: Path) -> None:
    """Name weights as in Stable Diffusion, which all versions of transformers read; version 5 writes shorter names."""
    prefix = "text_model."
    weights = {prefix + name.removeprefix(prefix): weight for name, weight in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})


if __name__ == "__main__":
    main()
