"""24 frames of 512 x 512 tuned within 8 GB, the whole of it: encoded, tuned, inverted, edited, decoded.

All parts of Stable Diffusion 1.5's shape with made-up weights are on the device, as an edit has them. The process may
take 8 GiB less the GiB that the driver, the kernels' buffers and what the allocator cannot use may need.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks.gpu_check.setting import GIB, Setting, gib
from benchmarks.harness import last, seconds_of
from benchmarks.results import table
from benchmarks.speed.cards import cap
from benchmarks.speed.fits import BESIDE_TENSORS
from benchmarks.speed.unet import SCHEDULER
from tav_core import ClipEditor, InversionConfig, SamplingConfig, TuningConfig
from tav_core.memory.budget import checkpointing_within, peak_memory, ran_out_of_memory
from tav_core.models.base import ASSETS, BaseModel

LIMIT = 8 * GIB
FRAMES, LATENT, UPDATES, STEPS = 24, 64, 4, 2
TEXT = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, vocab_size=49408)
VAE = dict(
    block_out_channels=(128, 256, 512, 512),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=2,
    scaling_factor=0.18215,
)
SMALL_TEXT = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=652)
SMALL_VAE = VAE | dict(block_out_channels=(16, 16, 16, 16), norm_num_groups=8, layers_per_block=1)


def unavailable(setting: Setting) -> str:
    if setting.cuda and torch.cuda.mem_get_info(setting.device)[1] < LIMIT - BESIDE_TENSORS:
        return f"The card has less than {gib(LIMIT - BESIDE_TENSORS)} GiB."
    return ""


def measure(setting: Setting) -> dict[str, Any]:
    """Bytes and seconds of each stage, and the checkpointing that the plan chose."""
    case = setting.case(FRAMES, LATENT)
    model = made_up_model(setting)
    cap(LIMIT - BESIDE_TENSORS, setting.device)  # on a CPU from here on, beside what libraries have taken
    pixels = 8 * case.latent
    found: dict[str, Any] = {"frames": case.frames, "pixels": pixels, "limit": LIMIT, "cap": LIMIT - BESIDE_TENSORS}
    try:
        found |= edit(model, torch.rand(case.frames, pixels, pixels, 3, generator=torch.Generator().manual_seed(0)))
        found["fits"] = True
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        found["fits"] = False
    return found | memory(setting)


def edit(model: BaseModel, frames: Tensor) -> dict[str, Any]:
    """The stages of an edit on a model: losses, seconds, and the checkpointing by the plan."""
    device = str(model.unet.device)
    seconds: dict[str, float] = {}

    def timed(stage: str, run: Callable[[], Any]) -> Any:
        kept: list[Any] = []
        seconds[stage] = seconds_of(lambda: kept.append(run()), device)
        return kept[0]

    editor = timed("encode", lambda: ClipEditor(model, frames, "a red dog runs"))
    config = TuningConfig(steps=UPDATES)
    weights = sum(weight.nbytes for part in (model.unet, model.vae, model.text_encoder) for weight in part.parameters())
    level = checkpointing_within(editor.video_unet, editor.latents, config, LIMIT - BESIDE_TENSORS - weights)
    updates = editor.tune(TuningConfig(steps=UPDATES, gradient_checkpointing=level))
    losses = [timed(f"update {number}", lambda: next(updates)).loss for number in range(1, UPDATES + 1)]
    last(updates)
    timed("invert", lambda: last(editor.invert(InversionConfig(STEPS))))
    step = timed("sample", lambda: last(editor.edit("a blue dog runs", SamplingConfig(STEPS))))
    decoded = timed("decode", lambda: editor.decode(step.latents))
    assert decoded.shape == frames.shape
    update = median(seconds.pop(f"update {number}") for number in range(1, UPDATES + 1))
    checkpointing = {False: "off", True: "on"}.get(level, level)
    about = {"gradient_checkpointing": checkpointing, "weights": weights, "losses": losses}
    return about | {"seconds": seconds | {"an update": update}}


def made_up_model(setting: Setting) -> BaseModel:
    """All parts on the device, in the setting's type."""
    text, vae = (SMALL_TEXT, SMALL_VAE) if setting.small else (TEXT, VAE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = CLIPTextModel(CLIPTextConfig(**text, hidden_act="quick_gelu", eos_token_id=651, pad_token_id=651))
        parts = {"vae": AutoencoderKL(**vae), "text_encoder": encoder}
    parts["unet"] = setting.case(FRAMES, LATENT).unet()
    tokenizer = CLIPTokenizer.from_pretrained(ASSETS / "demo-model" / "tokenizer", local_files_only=True)
    for name, part in parts.items():
        parts[name] = part.to(setting.device, setting.half).eval().requires_grad_(False)
    parts["unet"].prediction_type = SCHEDULER.config.prediction_type
    return BaseModel(**parts, tokenizer=tokenizer, scheduler=SCHEDULER)


def memory(setting: Setting) -> dict[str, Any]:
    """Bytes at the peak: of tensors, reserved for them, and taken of the device by everybody."""
    device = torch.device(setting.device)
    if not setting.cuda:
        return {"peak": peak_memory(device)}
    free, total = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.max_memory_reserved(device)
    return {"peak": peak_memory(device), "reserved": reserved, "taken_of_the_device": total - free}


def shown(result: dict[str, Any]) -> str:
    head = [
        "tuned",
        "limit, GB",
        "fits",
        "checkpointing",
        "peak, GiB",
        "reserved, GiB",
        "an update, s",
        "sampling step, s",
    ]
    pixels, seconds = result["pixels"], result.get("seconds", {})
    reserved = gib(result["reserved"]) if "reserved" in result else ""
    update = f"{seconds['an update']:.2f}" if seconds else ""
    sampling = f"{seconds['sample'] / STEPS:.2f}" if seconds else ""
    cells = [f"{result['frames']} frames of {pixels} x {pixels}", f"{result['limit'] / GIB:g}"]
    cells += ["yes" if result["fits"] else "no", result.get("gradient_checkpointing", "")]
    return table(head, [[*cells, gib(result["peak"]), reserved, update, sampling]])
