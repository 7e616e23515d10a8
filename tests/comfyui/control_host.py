"""Runs in ComfyUI's Python, never in that of pytest: ControlNets of the host under the pack's own nodes.

    python tests/comfyui/control_host.py CASE ...     with COMFYUI_PATH set; prints a line of JSON for each case

The models are the small ones of native_host.py. The reference is the host's own sampling of the native MODEL, in which
the host applies its controls itself.
"""

import gc
import json
import sys
from types import SimpleNamespace
from typing import Any

from native_host import (
    CFG,
    FRAMES,
    SIDE,
    apply,
    controlnet,
    error,
    hinted,
    module,
    noise,
    prompt,
    small_model,
    t2i_adapter,
    tuned_model,
)

# isort: split
import comfy.controlnet
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

tav = module("tav_core")
for node in ("sample.Sample", "ddim_invert.DDIMInvert", "one_shot_tune.OneShotTune"):  # which the host tells what runs
    name, kind = node.split(".")
    getattr(module(f"nodes.{name}"), kind).hidden = SimpleNamespace(prompt=None, unique_id=None)

STEPS, RANGE = 5, (0.1, 0.6)
HINTS = torch.rand(FRAMES, 3, 8 * SIDE, 8 * SIDE, generator=torch.Generator().manual_seed(7))


def chains() -> dict[str, Any]:
    """Controls by name; each acts from a tenth to six tenths of the way."""
    control, adapter = controlnet(), t2i_adapter()

    def ranged(which: Any, strength: float = 0.8) -> Any:
        return which.copy().set_cond_hint(HINTS, strength, RANGE)

    return {
        "ControlNet": ranged(control),
        "T2I-Adapter": ranged(adapter),
        "ControlNet behind T2I-Adapter": ranged(control).set_previous_controlnet(ranged(adapter, 0.4)),
        "one hint for all": hinted(control, HINTS[:1]),
    }


def loops() -> dict[str, float]:
    """A guided loop, an inversion, and what Sample Edit makes of CONDITIONING, beside the host."""
    model, found = small_model("sd15 with two resnets"), {}
    handle = tuned_model(model)
    native, plain = apply(model, handle), noise()
    scale = model.model.latent_format.scale_factor
    for name, control in {"none": None, **chains()}.items():
        extras = {} if control is None else dict(control=control, control_apply_to_uncond=True)
        positive, negative = prompt(10, **extras), prompt(11)
        start = noise()
        expected = by_host(native, start, positive, negative) * scale
        given = dict(model=handle, latents=inverted(start / scale), positive=positive, negative=negative)
        got = module("nodes.sample").Sample.execute(**given, steps=STEPS, guidance=CFG).result[0]["samples"] * scale
        found[name] = error(got, expected)
        if control is None:
            plain = got
        else:
            found[f"{name} acts"] = error(got, plain)
    again = module("nodes.sample").Sample.execute(
        handle, prompt(10), prompt(11), inverted(start / scale), steps=STEPS, guidance=CFG
    )
    found["nothing stays"] = error(again.result[0]["samples"] * scale, plain)
    return found


def inverted(samples: Tensor) -> dict[str, Any]:
    """What looks like the LATENT of DDIM Invert."""
    return {"samples": samples, module("nodes.adapters.starts").TRAJECTORY: dict.fromkeys(range(STEPS), samples)}


def by_host(native: Any, start: Tensor, positive: Any, negative: Any) -> Tensor:
    """The clip that the host's euler reaches at its smallest sigma, in the scale of the core."""
    sampling = native.get_model_object("model_sampling")
    sigmas = comfy.samplers.ddim_scheduler(sampling, STEPS)
    sigmas[-1] = sampling.sigmas[0]
    scale = native.model.latent_format.scale_factor
    latents = start * (1 + float(sigmas[0]) ** 2) ** 0.5 / scale
    given = torch.zeros_like(latents), CFG, comfy.samplers.sampler_object("euler"), sigmas, positive, negative, latents
    with torch.inference_mode():
        out = comfy.sample.sample_custom(native, *given, noise_mask=None, callback=None, disable_pbar=True, seed=1)
    return out / (1 + float(sigmas[-1]) ** 2) ** 0.5


def stages() -> dict[str, Any]:
    """Inversion and tuning under a control: the inversion samples back, and tuning learns beside it, in windows too."""
    model = small_model("sd15 with two resnets")
    handle, control = tuned_model(model), chains()["ControlNet"]
    under, without = prompt(10, control=control, control_apply_to_uncond=True), prompt(10)
    latents, invert = {"samples": noise()}, module("nodes.ddim_invert").DDIMInvert
    found: dict[str, Any] = {}
    for name, text in (("control", under), ("plain", without)):
        inverted, report = invert.execute(handle, latents, text, STEPS, refinements=10, keep=False).result
        found[f"{name} report"] = report
        found[f"{name} inverted"] = inverted["samples"].double().sum().item()
        for length in (None, 2):
            tune = module("nodes.one_shot_tune").OneShotTune
            settings = dict(steps=2, learning_rate=1e-2) | ({} if length is None else {"context_length": length})
            _, loss, *_ = tune.execute(handle, latents, text, keep=False, **settings).result
            found[f"{name} loss {length}"] = loss["loss"]
    return found


def refusals() -> dict[str, str]:
    """What is said of controls that do not fit."""
    model = small_model("sd15 with two resnets")
    handle, found = tuned_model(model), {}
    control = controlnet()
    lora = comfy.controlnet.ControlLora({}).set_cond_hint(HINTS)
    other = hinted(control, HINTS)
    for name, text in {
        "frames": prompt(10, control=hinted(control, HINTS[:2])),
        "kind": prompt(10, control=lora),
        "family": [[torch.randn(1, 7, 32), dict(control=wider(other))]],
    }.items():
        try:
            module("nodes.ddim_invert").DDIMInvert.execute(handle, {"samples": noise()}, text, STEPS, keep=False)
        except ValueError as refused:
            found[name] = str(refused)
    return found


def wider(control: Any) -> Any:
    """The control with an attention that reads wider prompts."""
    for name, layer in control.control_model.named_modules():
        if name.endswith("attn2.to_k"):
            layer.in_features = 64
    return control


def demo() -> dict[str, float]:
    """The bundled ControlNets under the pack's nodes, beside the core and under the host's own sampler."""
    model, found = module("nodes.adapters.demo").load_demo()[0], {}
    handle = tuned_model(model)
    text = [torch.randn(1, 77, 64, generator=torch.Generator().manual_seed(seed)) for seed in (10, 11)]
    start = torch.randn(FRAMES, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    for kind in ("depth", "pose"):
        network, hints = module("nodes.load_demo_control").LoadDemoControl.execute(kind).result
        control = network.copy().set_cond_hint(hints[:FRAMES].movedim(-1, 1), 0.8, RANGE)
        extras = dict(control=control, control_apply_to_uncond=True)
        positive, negative = ([[each, dict(extras)]] for each in text)
        given = dict(model=handle, latents=inverted(start), positive=positive, negative=negative)
        got = module("nodes.sample").Sample.execute(**given, steps=STEPS, guidance=CFG).result[0]["samples"]
        expected = by_host(apply(model, handle), start, positive, negative)
        found[f"{kind}, host"] = error(got, expected)
        ours = tav.HintControl(tav.load_control(f"demo-{kind}"), hints[:FRAMES], 0.8, *RANGE)
        host = module("nodes.adapters.control").HostControl(control)
        clip, t = start.movedim(0, 1)[None], torch.tensor([700])
        with module("nodes.adapters.control").running([host]), torch.inference_mode():
            added = host.residuals(clip, t, text[0])
        wanted = ours.residuals(clip, t, text[0])
        found[f"{kind}, core"] = max(
            error(a, b)
            for name in ("down_block_additional_residuals", "mid_block_additional_residual")
            for a, b in zip(added[name], wanted[name], strict=True)
        )
        found[f"{kind} acts"] = max(float(tensor.abs().max()) for tensor in wanted["down_block_additional_residuals"])
    return found


CASES = {"loops": loops, "stages": stages, "refusals": refusals, "demo": demo}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[1:]:
        sys.stdout.write(json.dumps({"case": case, **CASES[case]()}) + "\n")
        sys.stdout.flush()
        gc.collect()
