"""Bring a trained model folder into the package: float16 weights, only the files that loading needs.

python -m bundled_model.pack --model build/demo-model --output tav_core/assets/demo-model
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

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
    half = dict(local_files_only=True, torch_dtype=torch.float16)
    parts = {  # all read before anything is removed
        "unet": UNet2DConditionModel.from_pretrained(args.model / "unet", **half),
        "vae": AutoencoderKL.from_pretrained(args.model / "vae", **half),
        "text_encoder": CLIPTextModel.from_pretrained(
            args.model / "text_encoder", local_files_only=True, dtype=torch.float16
        ),
        "scheduler": DDIMScheduler.from_pretrained(args.model / "scheduler", local_files_only=True),
        "tokenizer": CLIPTokenizer.from_pretrained(args.model / "tokenizer", local_files_only=True),
    }
    if args.output.exists():
        shutil.rmtree(args.output)
    for name, part in parts.items():
        part.save_pretrained(args.output / name)
    for part in ("unet", "vae"):
        config = args.output / part / "config.json"  # diffusers notes the folder that it loaded from
        values = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    _name_as_published(args.output / "text_encoder" / "model.safetensors")
    for name in ("vocab.json", "merges.txt"):  # what readers other than transformers look for
        shutil.copy(args.model / "tokenizer" / name, args.output / "tokenizer")
    size = sum(f.stat().st_size for f in args.output.rglob("*"))
    print(f"{size / 1e6:.1f} MB")


def _name_as_published(file: Path) -> None:
    """Names as in Stable Diffusion, which all versions of transformers read; version 5 writes shorter ones."""
    prefix = "text_model."
    weights = {prefix + name.removeprefix(prefix): weight for name, weight in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})


if __name__ == "__main__":
    main()
