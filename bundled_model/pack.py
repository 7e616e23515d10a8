"""Pack a trained model folder as shipped: float16 weights, only the files that loading needs.

python -m bundled_model.pack --model build/demo-model --output tav_core/assets/demo-model
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if args.model.resolve() == args.output.resolve():
        parser.error("--output is emptied first: give another folder than --model")
    pack(args.model, args.output)
    size = sum(f.stat().st_size for f in args.output.rglob("*"))
    print(f"{size / 1e6:.1f} MB")


def pack(model: Path, output: Path) -> None:
    """Write a model folder; the output is emptied once all of the model was read."""
    parts = read_parts(model)
    if output.exists():
        shutil.rmtree(output)
    for name, part in parts.items():
        part.save_pretrained(output / name)
    for network in ("unet", "vae"):
        config = output / network / "config.json"  # diffusers writes the folder that it loaded from
        values = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    _name_as_published(output / "text_encoder" / "model.safetensors")
    for name in ("vocab.json", "merges.txt"):  # other programs read these
        shutil.copy(model / "tokenizer" / name, output / "tokenizer")


def read_parts(model: Path) -> dict[str, Any]:
    """Each part by its folder's name, the networks in float16."""
    half = dict(local_files_only=True, torch_dtype=torch.float16)
    return {
        "unet": UNet2DConditionModel.from_pretrained(model / "unet", **half),
        "vae": AutoencoderKL.from_pretrained(model / "vae", **half),
        "text_encoder": CLIPTextModel.from_pretrained(
            model / "text_encoder", local_files_only=True, dtype=torch.float16
        ),
        "scheduler": DDIMScheduler.from_pretrained(model / "scheduler", local_files_only=True),
        "tokenizer": CLIPTokenizer.from_pretrained(model / "tokenizer", local_files_only=True),
    }


def _name_as_published(file: Path) -> None:
    """Name weights as in Stable Diffusion, which all versions of transformers read; version 5 writes shorter names."""
    prefix = "text_model."
    weights = {prefix + name.removeprefix(prefix): weight for name, weight in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})


if __name__ == "__main__":
    main()
