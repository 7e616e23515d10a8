"""Bring a trained model folder into the package: float16 weights, only the files that loading needs.

python -m training.pack --model build/demo-model --output tav_core/assets/demo-model
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    shutil.rmtree(args.output, ignore_errors=True)
    UNet2DConditionModel.from_pretrained(args.model / "unet", torch_dtype=torch.float16).save_pretrained(
        args.output / "unet"
    )
    AutoencoderKL.from_pretrained(args.model / "vae", torch_dtype=torch.float16).save_pretrained(args.output / "vae")
    CLIPTextModel.from_pretrained(args.model / "text_encoder", dtype=torch.float16).save_pretrained(
        args.output / "text_encoder"
    )
    DDIMScheduler.from_pretrained(args.model / "scheduler").save_pretrained(args.output / "scheduler")
    CLIPTokenizer.from_pretrained(args.model / "tokenizer").save_pretrained(args.output / "tokenizer")
    for part in ("unet", "vae"):
        config = args.output / part / "config.json"  # diffusers notes the folder that it loaded from
        values = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    for name in ("vocab.json", "merges.txt"):  # what readers other than transformers look for
        shutil.copy(args.model / "tokenizer" / name, args.output / "tokenizer")
    size = sum(f.stat().st_size for f in args.output.rglob("*"))
    print(f"{size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
