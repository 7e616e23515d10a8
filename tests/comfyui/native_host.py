"""Runs in ComfyUI's Python, never in that of pytest: the native MODEL beside the library's VideoUNet.

    python tests/comfyui/native_host.py CASE ...     with COMFYUI_PATH set; prints a line of JSON for each case

Small models with random weights, shaped like Stable Diffusion 1.5 and 2.1, of which all that tuning trains is changed.
The reference runs in the same host: a MODEL whose UNet is replaced by a VideoUNet, through the hook that the host has
for it (`model_function_wrapper`). So samplers, areas, masks and windows are the host's in both.
"""

import gc
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from host import SD15, SD21, host_model, made_up, module, with_flow, with_lora  # starts the host

# isort: split
import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.supported_models
import comfy.t2i_adapter.adapter
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from torch import Tensor

FRAMES, SIDE, TIMESTEP, CFG = 4, 8, 421, 3.0
SIZES = {
    "sd15": (comfy.supported_models.SD15, SD15 | dict(model_channels=32, num_res_blocks=[1] * 4)),
    "sd21": (comfy.supported_models.SD20, SD21 | dict(model_channels=64, num_res_blocks=[1] * 4)),
}
for _, config in SIZES.values():
    config |= dict(transformer_depth=[1, 1, 1, 0], transformer_depth_output=[1] * 6 + [0] * 2, context_dim=32)
SIZES["sd15 with two resnets"] = (comfy.supported_models.SD15, SD15 | dict(model_channels=32, context_dim=32))


def small_model(size: str = "sd15", **changes: Any) -> ModelPatcher:
    family, config = SIZES[size]
    return host_model(family, {**config, **changes})


def tuned_model(
    model: ModelPatcher, group_norm: str = "video", strength: float = 1.0, seed: int = 3, lora_rank: int = 0
) -> Any:
    """A TAV_MODEL of MODEL in which every trained weight is moved by a tenth of its size."""
    inflate = module("nodes.inflate_unet").InflateUNet
    handle = inflate.execute(model, "float32", group_norm, lora_rank).result[0]
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        handle.video_unet.reset()
        for name, weight in handle.video_unet.adapter.parameters().items():
            scale = 0.2 * weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.02
            weight.add_(
                scale * torch.randn(weight.shape, generator=generator) * (5 if "attn_temp.to_out" in name else 1)
            )
    return handle.with_current_weights({}, strength)


def apply(model: ModelPatcher, handle: Any, strength: float = 1.0) -> ModelPatcher:
    return module("nodes.apply_motion").ApplyMotion.execute(model, handle, strength).result[0]


def reference(model: ModelPatcher, handle: Any, strength: float = 1.0) -> ModelPatcher:
    """MODEL with a VideoUNet in place of its UNet."""
    handle.apply_weights(handle.strength * strength)
    return with_video_unet(model, handle.video_unet)


def with_video_unet(model: ModelPatcher, video_unet: Any) -> ModelPatcher:
    made = model.clone()

    def run(_: Callable, given: dict[str, Any]) -> Tensor:
        x, sigma, c = given["input"], given["timestep"], given["c"]
        sampling, clips = model.model.model_sampling, len(given["cond_or_uncond"])
        scaled = sampling.calculate_input(sigma, x).unflatten(0, (clips, -1)).transpose(1, 2)
        text = c["c_crossattn"].unflatten(0, (clips, -1))
        assert torch.equal(text[:, :1].expand_as(text), text), "one prompt for a clip"
        timestep = sampling.timestep(sigma).unflatten(0, (clips, -1))[:, 0]
        with torch.no_grad():
            out = video_unet(scaled, timestep, text[:, 0].clone())
        return sampling.calculate_denoised(sigma, out.transpose(1, 2).flatten(0, 1), x)

    made.set_model_unet_function_wrapper(run)
    return made


def noise(frames: int = FRAMES, seed: int = 0, side: int = SIDE) -> Tensor:
    return torch.randn(frames, 4, side, side, generator=torch.Generator().manual_seed(seed))


def prompt(seed: int, tokens: int = 7, **extras: Any) -> list:
    return [[torch.randn(1, tokens, 32, generator=torch.Generator().manual_seed(seed)), extras]]


PROMPTS = dict(positive=prompt(10), negative=prompt(11))


def denoised(model: ModelPatcher, x: Tensor, cfg: float = CFG, positive: Any = None, negative: Any = None) -> Tensor:
    """What the host's sampler sees of one step at noise level TIMESTEP: x times the level's sigma."""

    def one_call(model_k: Any, x: Tensor, sigmas: Tensor, extra_args: Any, callback: Any, disable: Any) -> Tensor:
        return model_k(x, sigmas[0] * x.new_ones(len(x)), **extra_args)

    sigmas = torch.tensor([float(model.get_model_object("model_sampling").sigmas[TIMESTEP]), 0.0])
    prompts = positive or PROMPTS["positive"], negative or PROMPTS["negative"]
    with torch.inference_mode():
        return comfy.sample.sample_custom(
            *(model, x, cfg, comfy.samplers.KSAMPLER(one_call), sigmas, *prompts, torch.zeros_like(x)),
            **dict(noise_mask=None, callback=None, disable_pbar=True, seed=1),
        )


def sampled(model: ModelPatcher, x: Tensor, sampler: str = "euler", scheduler: str = "normal", **more: Any) -> Tensor:
    settings = dict(denoise=1.0, disable_noise=False, seed=5, disable_pbar=True) | PROMPTS | more
    positive, negative = settings.pop("positive"), settings.pop("negative")
    steps, cfg = settings.pop("steps", 3), settings.pop("cfg", CFG)
    with torch.inference_mode():
        return comfy.sample.sample(
            model, x, steps, cfg, sampler, scheduler, positive, negative, torch.zeros_like(x), **settings
        )


def error(got: Tensor, expected: Tensor) -> float:
    """The largest error over the largest value."""
    assert torch.isfinite(got).all()
    return float((got - expected).abs().max() / expected.abs().max())


def compare(model: ModelPatcher, handle: Any, strength: float = 1.0, frames: int = FRAMES, **given: Any) -> float:
    expected = denoised(reference(model, handle, strength), noise(frames), **given)
    return error(denoised(apply(model, handle, strength), noise(frames), **given), expected)


def one_call() -> dict[str, float]:
    """Frame counts, norms, strengths, guidance and prompts of unlike length."""
    found = {}
    for size in SIZES:
        model = small_model(size)
        for group_norm in ("video", "frame"):
            handle = tuned_model(model, group_norm)
            for frames in (1, 2, 3, 5):
                found[f"{size} {group_norm} {frames} frames"] = compare(model, handle, frames=frames)
        found[f"{size} strength 0.5"] = compare(model, handle, 0.5)
        found[f"{size} strength 0"] = compare(model, handle, 0.0)
        found[f"{size} no guidance"] = compare(model, handle, cfg=1.0)
        found[f"{size} longer prompt"] = compare(model, handle, positive=prompt(12, 14))
        found[f"{size} one prompt twice"] = compare(model, handle, positive=prompt(12) + prompt(13))
        low = tuned_model(model, lora_rank=4)
        found[f"{size} low rank"] = compare(model, low)
        found[f"{size} low rank, strength 0.5"] = compare(model, low, 0.5)
        untuned = handle.__class__(handle.patcher, handle.schedule, handle.scale)
        found[f"{size} untuned"] = compare(model, untuned)
        lora = with_lora(model)
        found[f"{size} LoRA under the tuning"] = compare(lora, tuned_model(lora))
        image = denoised(model, noise())
        tuned = denoised(apply(model, handle), noise())
        found[f"{size} the tuning acts"] = -error(tuned, image)
        found[f"{size} the temporal attention acts"] = -error(
            denoised(apply(model, handle), noise()), denoised(apply(model, untuned), noise())
        )
    return found


def sampling() -> dict[str, float]:
    """Every sampler, and every scheduler, through KSampler's own function."""
    model = small_model()
    handle = tuned_model(model)
    native, expected = apply(model, handle), reference(model, handle)
    found = {}
    for sampler in comfy.samplers.KSampler.SAMPLERS:
        found[sampler] = error(*(sampled(each, noise(3), sampler) for each in (native, expected)))
    for scheduler in comfy.samplers.KSampler.SCHEDULERS:
        found[scheduler] = error(*(sampled(each, noise(3), "euler", scheduler) for each in (native, expected)))
    return found


def conditions() -> dict[str, float]:
    """Areas, masks, ranges of timesteps, and a mask of the latents, frame by frame."""
    model = small_model("sd21")
    handle = tuned_model(model)
    native, expected = apply(model, handle), reference(model, handle)
    x, found = noise(3, side=16), {}
    half = torch.zeros(3, 16, 16)
    for frame in range(3):
        half[frame, :, : 4 + 4 * frame] = 1
    positives = {
        "area": prompt(12, area=(8, 16, 4, 0), strength=0.7) + prompt(10),
        "mask": prompt(12, mask=half, mask_strength=0.8) + prompt(10),
        "timestep range": prompt(12, start_percent=0.0, end_percent=0.4)
        + prompt(10, start_percent=0.4, end_percent=1.0),
    }
    for name, positive in positives.items():
        found[name] = error(*(sampled(each, x, positive=positive) for each in (native, expected)))
    found["noise mask"] = error(*(sampled(each, x, noise_mask=half) for each in (native, expected)))
    found["denoise 0.6"] = error(*(sampled(each, x, denoise=0.6) for each in (native, expected)))
    return found


def inversion() -> dict[str, float]:
    """DDIM inversion and the way back by euler, both by the host, beside the library's."""
    core, found = module("tav_core"), {}
    for name, size, zero_snr in (("epsilon", "sd15", False), ("v", "sd21", False), ("v zero SNR", "sd21", True)):
        model = small_model(size)
        if zero_snr:
            model = ModelSamplingDiscrete().patch(model, "v_prediction", zsnr=True)[0]
        handle = tuned_model(model)
        native, steps, text = apply(model, handle), 5, PROMPTS["positive"][0][0]
        scale = model.model.latent_format.scale_factor
        clip = (noise() * scale).transpose(0, 1)[None]
        handle.apply_weights()
        given = handle.video_unet, clip, text, handle.schedule
        *_, inverted = core.invert(*given, core.InversionConfig(steps))
        sigmas = model.get_model_object("model_sampling").sigmas
        rising = comfy.samplers.ddim_scheduler(model.get_model_object("model_sampling"), steps).flip(0)
        rising[0] = 0.0001  # as Flip Sigmas has it
        got = by_host(native, module("nodes.inversion_sampler").InversionSampler.execute().result[0], rising, noise())
        factor = (1 + float(rising[-1]) ** 2) ** 0.5
        found[f"{name} inversion"] = error(got * scale / factor, inverted.latents[0].transpose(0, 1))
        config = core.SamplingConfig(steps, guidance_scale=1.0)
        *_, back = core.sample(handle.video_unet, inverted.latents, text, None, handle.schedule, config)
        falling = rising.flip(0)
        falling[-1] = sigmas[0]
        start = inverted.latents[0].transpose(0, 1) * factor / scale
        host_back = by_host(native, comfy.samplers.sampler_object("euler"), falling, start)
        factor = (1 + float(sigmas[0]) ** 2) ** 0.5
        found[f"{name} sampling"] = error(host_back * scale / factor, back.latents[0].transpose(0, 1))
    return found


def by_host(model: ModelPatcher, sampler: Any, sigmas: Tensor, latents: Tensor) -> Tensor:
    """SamplerCustom without noise and guidance."""
    zeros = torch.zeros_like(latents)
    given = zeros, 1.0, sampler, sigmas, PROMPTS["positive"], PROMPTS["positive"], latents
    with torch.inference_mode():
        return comfy.sample.sample_custom(model, *given, noise_mask=None, callback=None, disable_pbar=True, seed=1)


def windows() -> dict[str, Any]:
    """Windows beside their definition: the same MODEL on the frames of each, its outputs averaged."""
    model = small_model("sd15 with two resnets")
    native = apply(model, tuned_model(model))
    node = module("nodes.context_windows").ContextWindows
    length, overlap, frames = 4, 2, 7
    windowed = node.execute(native, length, overlap).result[0]
    x, found = noise(frames, side=16), {}
    one = node.execute(native, frames, overlap).result[0]
    found["one window is none"] = torch.equal(sampled(one, x), sampled(native, x))
    masks = (torch.arange(16) < 4 + torch.arange(frames)[:, None, None]).float().expand(frames, 16, 16)
    texts = torch.randn(frames, 7, 32, generator=torch.Generator().manual_seed(5))
    hints = torch.rand(frames, 3, 128, 128, generator=torch.Generator().manual_seed(6))
    control, adapter = controlnet(), t2i_adapter()
    kinds = {
        "one prompt": lambda seen: prompt(10),
        "masks": lambda seen: prompt(12, mask=masks[seen]) + prompt(10),
        "a text for each frame": lambda seen: [[texts[seen], {}]],
        "ControlNet": lambda seen: prompt(10, control=hinted(control, hints[seen])),
        "T2I-Adapter": lambda seen: prompt(10, control=hinted(adapter, hints[seen])),
        "ControlNet behind T2I-Adapter": lambda seen: prompt(
            10, control=hinted(control, hints[seen]).set_previous_controlnet(hinted(adapter, hints[seen]))
        ),
        "one hint for all": lambda seen: prompt(10, control=hinted(control, hints[:1])),
    }
    covered = [([0, 1, 2, 3], 0), ([0, 1, 2, 3, 4, 5], 2), ([0, 2, 3, 4, 5, 6], 2)]  # frames seen, of which led by
    for name, positive in kinds.items():
        expected, weights = torch.zeros_like(x), torch.zeros(frames, 1, 1, 1)
        for seen, leads in covered:
            share = torch.tensor([1.0, 2.0, 2.0, 1.0])[:, None, None, None]
            expected[seen[leads:]] += share * denoised(native, x[seen], 1.0, positive(seen))[leads:]
            weights[seen[leads:]] += share
        got = denoised(windowed, x, 1.0, positive(list(range(frames))))
        found[name] = error(got, expected / weights)
        whole = denoised(native, x, 1.0, positive(list(range(frames))))
        found[f"{name}: apart from the whole"] = error(got, whole)
    found["steps"] = error(
        sampled(windowed, x), sampled(node.execute(reference_of(model), length, overlap).result[0], x)
    )
    found["ad_params"] = told(windowed, x)
    return found


def reference_of(model: ModelPatcher) -> ModelPatcher:
    return reference(model, tuned_model(model))


def told(windowed: ModelPatcher, x: Tensor) -> list:
    """What a patch sees of the windows."""
    made, heard = windowed.clone(), []

    def patch(n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple:
        heard.append((options["ad_params"]["full_length"], tuple(options["ad_params"]["sub_idxs"])))
        return n, context, value

    made.set_model_attn2_patch(patch)
    denoised(made, x, 1.0)
    return sorted(set(heard))


def controlnet() -> Any:
    """A ControlNet of the small SD 1.5 with two resnets on each level and random weights."""
    config = SIZES["sd15 with two resnets"][1] | dict(num_heads=8)
    given = {key: value for key, value in config.items() if key != "out_channels"}
    net = comfy.cldm.cldm.ControlNet(hint_channels=3, **given)
    made_up(net)
    return comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))


def t2i_adapter() -> Any:
    """A T2I-Adapter of the small SD 1.5 with random weights."""
    net = comfy.t2i_adapter.adapter.Adapter([32, 64, 128, 128], nums_rb=2, cin=192, ksize=1, sk=True, xl=False)
    made_up(net)
    return comfy.controlnet.T2IAdapter(net, 3, 8, "nearest-exact", device=torch.device("cpu"))


def hinted(control: Any, hints: Tensor, strength: float = 1.0) -> Any:
    return control.copy().set_cond_hint(hints, strength)


def lifecycle() -> dict[str, Any]:
    """What is left after runs, alternations, interrupts and exceptions."""
    model = small_model()
    handle = tuned_model(model)
    keys, weights = set(model.model.state_dict()), weights_of(model)
    before = sampled(model, noise())
    native = apply(model, handle)
    first = sampled(native, noise())
    found: dict[str, Any] = {"hooks": hooks_of(model), "acts": error(first, before)}
    sizes, alike = [], True
    for turn in range(20):
        again = apply(model, handle)
        alike &= torch.equal(sampled(model, noise()), before) and torch.equal(sampled(again, noise()), first)
        del again
        comfy.model_management.cleanup_models_gc()
        if turn in (2, 19):
            sizes.append(tensors())
    found |= {"alternations": alike, "bytes": sizes}
    stopped = comfy.model_management.InterruptProcessingException
    for name, kind in (("interrupt", stopped), ("exception", ArithmeticError)):
        with_fault = native.clone()
        with_fault.set_model_attn2_patch(failing_at(20, kind))
        try:
            sampled(with_fault, noise())
            found[name] = "not raised"
        except kind:
            found[name] = hooks_of(model)
        del with_fault
        found[f"after {name}"] = torch.equal(sampled(native, noise()), first)
        found[f"image model after {name}"] = torch.equal(sampled(model, noise()), before)
    comfy.model_management.unload_all_models()
    found["keys"] = set(model.model.state_dict()) == keys
    found["weights"] = all(torch.equal(weight, weights[name]) for name, weight in weights_of(model).items())
    return found


def failing_at(call: int, kind: type[BaseException]) -> Callable:
    calls = []

    def patch(n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple:
        calls.append(1)
        if len(calls) == call:
            raise kind()
        return n, context, value

    return patch


def weights_of(model: ModelPatcher) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.model.named_parameters()}


def hooks_of(model: ModelPatcher) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.model.modules())


def tensors() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    alive = {
        id(each): each.numel() * each.element_size() for each in gc.get_objects() if issubclass(type(each), Tensor)
    }
    return sum(alive.values())


def refusals() -> dict[str, str]:
    """What a wrong use is answered with."""
    model, other = small_model(), small_model("sd21")
    handle = tuned_model(model)
    native = apply(model, handle)
    wider = small_model(context_dim=64)
    depths = dict(channel_mult=[1, 2, 4], num_res_blocks=[2, 2, 2], transformer_depth=[0, 0, 2, 2, 10, 10])
    depths |= dict(transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10)
    sdxl = host_model(
        comfy.supported_models.SDXL, SD21, num_classes="sequential", adm_in_channels=64, model_channels=32, **depths
    )
    inversion = module("nodes.inversion_sampler").InversionSampler.execute().result[0]
    rising = torch.tensor([0.0001, 0.1, 1.0])
    windowed = module("nodes.context_windows").ContextWindows

    def noisy() -> None:
        given = noise(), 1.0, inversion, rising, PROMPTS["positive"], PROMPTS["negative"], noise()
        comfy.sample.sample_custom(native, *given, noise_mask=None, callback=None, disable_pbar=True, seed=1)

    tries: dict[str, Callable] = {
        "family": lambda: apply(sdxl, handle),
        "size": lambda: apply(other, handle),
        "text": lambda: apply(wider, handle),
        "twice": lambda: apply(native, handle),
        "tiles": lambda: denoised(tiled(native), noise()),
        "wrappers": lambda: denoised(without_wrappers(native), noise()),
        "falling": lambda: by_host(native, inversion, rising.flip(0), noise()),
        "noise": noisy,
        "flow": lambda: by_host(with_flow(model), inversion, torch.tensor([0.1, 0.5, 0.9]), noise()),
        "windows twice": lambda: windowed.execute(windowed.execute(native, 4, 2).result[0], 4, 2),
        "overlap": lambda: windowed.execute(native, 4, 4),
    }
    found = {}
    for name, attempt in tries.items():
        try:
            attempt()
            found[name] = ""
        except (ValueError, RuntimeError) as raised:
            found[name] = str(raised)
    return found


def tiled(model: ModelPatcher) -> ModelPatcher:
    """With a node that puts two tiles of each frame into the batch."""
    made = model.clone()

    def run(apply_model: Callable, given: dict[str, Any]) -> Tensor:
        x, c = given["input"], dict(given["c"])
        c["c_crossattn"] = c["c_crossattn"].repeat_interleave(2, 0)
        out = apply_model(torch.cat(x.unsqueeze(1).chunk(2, -1), 1).flatten(0, 1), given["timestep"].repeat(2), **c)
        return torch.cat(out.unflatten(0, (-1, 2)).unbind(1), -1)

    made.set_model_unet_function_wrapper(run)
    return made


def without_wrappers(model: ModelPatcher) -> ModelPatcher:
    made = model.clone()
    made.wrappers.clear()
    return made


def exported() -> dict[str, float]:
    """An exported tuning that the host loads as a LoRA, beside the image model with the tuned queries."""
    model = small_model()
    handle = tuned_model(model)
    handle.apply_weights()
    core, found = module("tav_core"), {}
    expected = model.clone()
    expected.add_patches({key: ("diff", (each,)) for key, each in differences(model, handle).items()})
    wanted = sampled(expected, noise())
    found["acts"] = -error(wanted, sampled(model, noise()))
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("diff", "lora"):
            path = core.export_tuned(handle.video_unet, Path(folder) / f"{kind}.safetensors", kind, error=1e-4).path
            loaded, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(path)), 1.0, 0)
            assert loaded.patches.keys() == expected.patches.keys()
            found[kind] = error(sampled(loaded, noise()), wanted)
    return found


def differences(model: ModelPatcher, handle: Any) -> dict[str, Tensor]:
    keys, adapter = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config), handle.video_unet.adapter
    return {f"diffusion_model.{keys[name]}": adapter.tuned[name] - base for name, base in adapter.base.items()}


LEANS_ON = {  # what of the host the native MODEL uses
    "comfy.model_patcher": ["ModelPatcher"],
    "comfy.model_patcher.ModelPatcher": [
        "add_patches", "add_weight_wrapper", "add_wrapper_with_key", "clone", "get_model_object", "get_wrappers",
        "model_patches_models", "set_model_attn1_replace",
    ],
    "comfy.patcher_extension.WrappersMP": ["CALC_COND_BATCH", "DIFFUSION_MODEL", "OUTER_SAMPLE", "PREPARE_SAMPLING"],
    "comfy.patcher_extension.WrapperExecutor": ["new_class_executor"],
    "comfy.context_windows": ["ContextHandlerABC"],
    "comfy.conds.CONDRegular": ["_copy_with"],
    "comfy.ldm.modules.attention": ["BasicTransformerBlock", "optimized_attention"],
    "comfy.ldm.modules.diffusionmodules.openaimodel": ["ResBlock", "UNetModel"],
    "comfy.ops.manual_cast": ["LayerNorm", "Linear"],
    "comfy.samplers": ["KSAMPLER"],
    "comfy.utils": ["get_attr", "repeat_to_batch_size", "unet_to_diffusers"],
}  # fmt: skip


def leans_on() -> dict[str, list[str]]:
    """What of the host is missing."""
    return {
        "missing": [f"{place}.{name}" for place, names in LEANS_ON.items() for name in names if not has(place, name)]
    }


def has(place: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(place), name)
    except ModuleNotFoundError:
        outer, _, kind = place.rpartition(".")
        return hasattr(getattr(importlib.import_module(outer), kind, None), name)


def speed(frames: int = 8, rounds: int = 3) -> dict[str, float]:
    """Median CPU seconds of a step of full-size SD 1.5 on so many frames of 32 x 32 latents: image UNet and native."""
    model = host_model(comfy.supported_models.SD15, SD15)
    native = apply(model, tuned_model(model))
    x, text = noise(frames, side=32), [[torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(0)), {}]]
    spent: dict[str, list[float]] = {"image": [], "native": []}
    for _ in range(rounds + 1):  # the first warms up
        for name, each in (("image", model), ("native", native)):
            sampler, seconds = comfy.samplers.KSAMPLER(timed_call), []
            sampler.extra_options = {"seconds": seconds}
            given = 1.0, sampler, torch.tensor([1.0, 0.0]), text, text, torch.zeros_like(x)
            with torch.inference_mode():
                comfy.sample.sample_custom(each, x, *given, noise_mask=None, callback=None, disable_pbar=True, seed=1)
            spent[name] += seconds
    found = {name: median(seconds[1:]) for name, seconds in spent.items()}
    return found | {"ratio": found["native"] / found["image"]}


def timed_call(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: Any, callback: Any, disable: Any, seconds: list[float]
) -> Tensor:
    """A sampler of one call, which notes the CPU seconds of the call alone."""
    began = time.process_time()
    out = model(x, sigmas[0] * x.new_ones(len(x)), **extra_args)
    seconds.append(time.process_time() - began)
    return out


CASES: dict[str, Callable[[], dict]] = {
    "one_call": one_call,
    "sampling": sampling,
    "conditions": conditions,
    "inversion": inversion,
    "windows": windows,
    "lifecycle": lifecycle,
    "refusals": refusals,
    "exported": exported,
    "leans_on": leans_on,
    "speed": speed,
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[1:]:
        sys.stdout.write(json.dumps({"case": case, **CASES[case]()}) + "\n")
        sys.stdout.flush()
        gc.collect()
