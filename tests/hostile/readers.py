"""Small good files of every kind that is read, the readers, and broken copies of the files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from tav_core import VideoUNet, inflate, load_model, load_tuned, read_video, save_tuned, write_video
from tav_core.models.base import ASSETS
from tav_core.models.codec import encode_prompts
from tav_core.video import Audio
from tests.conftest import EPSILON, SD1

from .mutations import mutated
from .sandbox import GIB, Report, read_all

disable_progress_bar()
set_verbosity_error()

WORDS = 652  # that the bundled tokenizer knows
FEW_PIXELS = 2**20
CASES = Path(__file__).parents[1] / "video" / "cases"
MADE = ("mp4", "webm", "gif", "png", "mkv", "mov", "webp", "avif", "tif")
KEPT = ("hlg.mov", "vp9a.webm", "flv.flv", "ac4.mp4", "av1gray.mp4", "anim.webp")  # in CASES
KINDS = (*MADE, *KEPT, "mpg", "interlaced", "tuned weights", "model")
MEMORY = {"tuned weights": GIB // 4, "model": GIB // 4}  # bytes beyond the process's own; 2 GiB for videos


def make_good(folder: Path, kind: str) -> Path:
    """A small file of one of the kinds of videos and pictures."""
    if kind in KEPT:
        return Path(shutil.copy(CASES / kind, folder / f"good{Path(kind).suffix}"))
    if kind in ("webp", "avif", "tif"):
        return make_pictures(folder / f"good.{kind}")
    if kind in ("mpg", "interlaced"):
        return make_film(folder / ("good.mpg" if kind == "mpg" else "good.mp4"))
    return make_video(folder, f".{kind}")


def make_pictures(path: Path) -> Path:
    """An animation with an alpha channel, or JPEG in TIFF."""
    noise = torch.randint(256, (4, 32, 48, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).numpy()
    images = [Image.fromarray(picture) for picture in noise]
    if path.suffix == ".tif":
        images[0].convert("RGB").save(path, compression="jpeg")
    else:
        images[0].save(path, save_all=True, append_images=images[1:], duration=50)
    return path


def make_film(path: Path) -> Path:
    """MPEG-2, or interlaced H.264."""
    codec, options = ("mpeg2video", {}) if path.suffix == ".mpg" else ("libx264", {"flags": "+ildct+ilme"})
    noise = torch.randint(256, (6, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index, picture in enumerate(noise):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_video(folder: Path, suffix: str) -> Path:
    """Six small noisy frames; those with a sound track have one. A .png is the first frame of a folder of images."""
    frames = torch.rand(6, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    if suffix == ".png":
        return write_video(folder / "frames", frames, 8) / "frame_00000.png"
    sound = Audio(0.1 * torch.randn(2, 48000, generator=torch.Generator().manual_seed(2)), 48000)
    return write_video(folder / f"good{suffix}", frames, 8, audio=None if suffix == ".gif" else sound)


def read_any_video(path: Path) -> None:
    """Two frames, or one of a TIFF, at a fixed size, then all of a small picture. A .png is a sequence of its own."""
    num_frames = 1 if path.suffix == ".tif" else 2
    if path.suffix == ".png":
        path, num_frames = path.with_name(path.stem[:-5] + "%05d.png"), 1
    clip = read_video(path, num_frames=num_frames, width=48, height=32)
    if clip.source_width * clip.source_height < FEW_PIXELS:
        read_video(path)


def broken_files(good: Path, count: int) -> Iterator[Path]:
    """Mutated copies under names of their own, each removed when the next one is asked for."""
    data = good.read_bytes()
    for seed in range(count):
        copy = good.with_name(f"broken_{seed:05}{good.suffix}")
        copy.write_bytes(mutated(data, seed))
        yield copy
        copy.unlink()


def read_tuned(path: Path) -> None:
    """Into an inflated model that has the tuned weights' shapes."""
    load_tuned(_inflated(), path)


@cache
def _inflated() -> VideoUNet:
    return inflate(UNet2DConditionModel(**SD1))


def make_tuned(folder: Path) -> Path:
    return save_tuned(_inflated(), folder / "good.safetensors", dtype=torch.float16, metadata={"prompt": "é"})


def make_model(folder: Path) -> Path:
    """A whole base model of a few hundred kilobytes, with the bundled tokenizer."""
    good = folder / "good"
    shutil.copytree(ASSETS / "demo-model" / "tokenizer", good / "tokenizer")
    text = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"bos_token_id": WORDS - 2, "eos_token_id": WORDS - 1, "pad_token_id": WORDS - 1}
    CLIPTextModel(CLIPTextConfig(vocab_size=WORDS, **text)).save_pretrained(good / "text_encoder")
    UNet2DConditionModel(**SD1).save_pretrained(good / "unet")
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8).save_pretrained(good / "vae")
    DDIMScheduler(**EPSILON).save_pretrained(good / "scheduler")
    return good


def read_model(path: Path) -> None:
    """All parts, and one prompt through tokenizer and text encoder."""
    encode_prompts(load_model(path), ["a pink person"])


def broken_models(good: Path, count: int) -> Iterator[Path]:
    """Copies of the folder with one file mutated, each file in turn."""
    names = sorted(file.relative_to(good) for file in good.rglob("*") if file.is_file())
    for seed in range(count):
        copy = good.with_name(f"broken_{seed:05}")
        shutil.copytree(good, copy)
        file = copy / names[seed % len(names)]
        file.write_bytes(mutated(file.read_bytes(), seed))
        yield copy
        shutil.rmtree(copy)


def read_mutated(kind: str, folder: Path, count: int) -> Report:
    """Make a good file of a kind, and read so many broken copies of it in a bounded process."""
    memory = MEMORY.get(kind, 2 * GIB)
    if kind == "model":
        good = make_model(folder)
        return read_all(read_model, good, broken_models(good, count), memory)
    if kind == "tuned weights":
        good = make_tuned(folder)
        return read_all(read_tuned, good, broken_files(good, count), memory)
    good = make_good(folder, kind)
    return read_all(read_any_video, good, broken_files(good, count), memory)
