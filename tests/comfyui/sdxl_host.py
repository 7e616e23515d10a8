"""Runs in ComfyUI's Python, never in that of pytest: SDXL's MODEL and CONDITIONING under the pack's nodes.

    python tests/comfyui/sdxl_host.py CASE ...     with COMFYUI_PATH set; prints a line of JSON for each case

A small model of SDXL's block layout with random weights. The reference is the host's own UNet under its own encoding
of sizes.
"""

import gc
import json
import sys
from types import SimpleNamespace
from typing import Any

from native_host import CFG, FRAMES, TIMESTEP, apply, error, module, tuned_model

# isort: split
import comfy.model_base
import comfy.sample
import comfy.samplers
import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from host import PLAIN, made_up
from torch import Tensor

for node in ("sample.Sample", "ddim_invert.DDIMInvert", "one_shot_tune.OneShotTune"):  # which the host tells what runs
    name, kind = node.split(".")
    getattr(module(f"nodes.{name}"), kind).hidden = SimpleNamespace(prompt=None, unique_id=None)

POOLED, TEXT, SIDE, STEPS = 32, 48, 8, 4
CONFIG = PLAIN | dict(
    **dict(model_channels=64, num_res_blocks=[2] * 3, channel_mult=[1, 2, 4], use_linear_in_transformer=True),
    **dict(transformer_depth=[0, 0, 1, 1, 2, 2], transformer_depth_output=[0] * 3 + [1] * 3 + [2] * 3),
    **dict(transformer_depth_middle=2, context_dim=TEXT, adm_in_channels=6 * 256 + POOLED, num_classes="sequential"),
)
SIZES = dict(height=96, width=64, crop_h=8, crop_w=16, target_height=80, target_width=72)


def sdxl(config: dict = CONFIG, velocity: bool = False) -> ModelPatcher:
    model_config = comfy.supported_models.SDXL(dict(config))
    model_config.set_inference_dtype(torch.float32, None)
    if velocity:
        model_config.sampling_settings = dict(zsnr=True)
    kind = comfy.model_base.ModelType
    with torch.inference_mode():
        model = comfy.model_base.SDXL(model_config, model_type=kind.V_PREDICTION if velocity else kind.EPS)
        made_up(model.diffusion_model)
    return ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prompt(seed: int, **extras: Any) -> list:
    return [[draw(1, 7, TEXT, seed=seed), dict(pooled_output=draw(1, POOLED, seed=100 + seed), **extras)]]


def conversion() -> dict[str, float]:
    """The inflated UNet on one frame and on like ones, beside the host's; with sizes of CONDITIONING and without."""
    found = {}
    for name, velocity in (("epsilon", False), ("zero-SNR v", True)):
        model = sdxl(velocity=velocity)
        handle = module("nodes.inflate_unet").InflateUNet.execute(model, "float32", "video").result[0]
        found[f"{name} predicts"] = handle.schedule.prediction_type == ("v_prediction" if velocity else "epsilon")
        for sizes in ({}, SIZES):
            conditioning = prompt(10, **sizes)
            text, extras = conditioning[0]
            given = SIZES if sizes else dict(height=8 * SIDE, width=8 * SIDE)
            with torch.inference_mode():
                y = model.model.encode_adm(pooled_output=extras["pooled_output"], **given)
                image, t = draw(1, 4, SIDE, SIDE), torch.tensor([TIMESTEP])
                expected = model.model.diffusion_model(image, t, context=text, y=y)
            for frames in (1, 3):
                clip = image[:, :, None].expand(-1, -1, frames, -1, -1)
                under = module("nodes.adapters.data").embeddings(conditioning, "caption", handle, clip)
                with torch.no_grad():
                    got = handle.video_unet(clip, TIMESTEP, under.text, added_cond_kwargs=under.added)
                found[f"{name}, {'sizes' if sizes else 'no sizes'}, {frames} frames"] = error(got[:, :, -1], expected)
    return found


def native() -> dict[str, float]:
    """Sample Edit beside the host's own euler on the native MODEL, guided."""
    model, found = sdxl(), {}
    handle = tuned_model(model)
    start, scale = draw(FRAMES, 4, SIDE, SIDE), model.model.latent_format.scale_factor
    positive, negative = prompt(10, **SIZES), prompt(11)
    starts = module("nodes.adapters.starts")
    latents = {"samples": start / scale, starts.TRAJECTORY: dict.fromkeys(range(STEPS), start / scale)}
    given = dict(model=handle, latents=latents, positive=positive, negative=negative, steps=STEPS, guidance=CFG)
    got = module("nodes.sample").Sample.execute(**given).result[0]["samples"] * scale
    tuned = apply(model, handle)
    sampling = tuned.get_model_object("model_sampling")
    sigmas = comfy.samplers.ddim_scheduler(sampling, STEPS)
    sigmas[-1] = sampling.sigmas[0]
    noisy = start * (1 + float(sigmas[0]) ** 2) ** 0.5 / scale
    euler = torch.zeros_like(noisy), CFG, comfy.samplers.sampler_object("euler"), sigmas, positive, negative, noisy
    with torch.inference_mode():
        out = comfy.sample.sample_custom(tuned, *euler, noise_mask=None, callback=None, disable_pbar=True, seed=1)
    found["guided loop"] = error(got, out / (1 + float(sigmas[-1]) ** 2) ** 0.5 * scale)
    again = module("nodes.sample").Sample.execute(**given | dict(positive=prompt(10))).result[0]["samples"] * scale
    found["sizes act"] = error(again, got)
    return found


def stages() -> dict[str, Any]:
    """Tuning, inversion and edit by the nodes."""
    model = sdxl()
    handle = module("nodes.inflate_unet").InflateUNet.execute(model, "float32", "video").result[0]
    latents = {"samples": draw(FRAMES, 4, SIDE, SIDE)}
    tune = module("nodes.one_shot_tune").OneShotTune
    tuned, loss, *_ = tune.execute(handle, latents, prompt(10), steps=3, learning_rate=1e-3, keep=False).result
    invert = module("nodes.ddim_invert").DDIMInvert
    inverted, _ = invert.execute(tuned, latents, prompt(11), STEPS, keep=False).result
    sample = module("nodes.sample").Sample
    edit = sample.execute(tuned, prompt(12), prompt(11), inverted, steps=STEPS, guidance=CFG).result[0]["samples"]
    return {"loss": loss["loss"], "shape": list(edit.shape), "finite": bool(edit.isfinite().all())}


def refusals() -> dict[str, str]:
    """What is said of SDXL's kin, and of prompts without what SDXL takes."""
    inflate, found = module("nodes.inflate_unet").InflateUNet, {}
    distilled = CONFIG | dict(transformer_depth=[0, 0, 1, 1, 2, 1])
    plain = [[draw(1, 7, TEXT), {}]]
    handle = inflate.execute(sdxl(), "float32", "video").result[0]
    latents = {"samples": draw(FRAMES, 4, SIDE, SIDE)}
    for name, attempt in {
        "distilled": lambda: inflate.execute(sdxl(distilled), "float32", "video"),
        "no pooled text": lambda: module("nodes.ddim_invert").DDIMInvert.execute(handle, latents, plain, 4, keep=False),
    }.items():
        try:
            attempt()
        except ValueError as refused:
            found[name] = str(refused)
    return found


CASES = {"conversion": conversion, "native": native, "stages": stages, "refusals": refusals}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[1:]:
        sys.stdout.write(json.dumps({"case": case, **CASES[case]()}) + "\n")
        sys.stdout.flush()
        gc.collect()
