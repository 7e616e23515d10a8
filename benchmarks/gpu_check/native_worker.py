"""Runs in ComfyUI's Python: the image model, the native MODEL and the image model again, sampled into a file.

    python native_worker.py older|dynamic FILE DEVICE [small]       prints a line of JSON

Dynamic VRAM is switched on as ComfyUI's main.py does, before torch is imported.
"""

import json
import os
import sys
from pathlib import Path

WAY, FILE, DEVICE, SMALL = sys.argv[1], sys.argv[2], sys.argv[3], "small" in sys.argv[4:]
ON_GPU = DEVICE.startswith("cuda")
if ON_GPU and WAY == "dynamic":
    import comfy_aimdo.control

    comfy_aimdo.control.init()
if ON_GPU:
    os.environ["COMFYUI_ON_GPU"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "comfyui"))
import native_host as host  # noqa: E402, starts the host

# isort: split
import time  # noqa: E402

import comfy.memory_management  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfyui_version  # noqa: E402
import torch  # noqa: E402
from host import SD15, host_model  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

FRAMES, SIDE, STEPS = (3, 8, 2) if SMALL else (8, 32, 4)


def switch_on() -> bool:
    """Dynamic VRAM, as main.py has it. Returns whether ComfyUI works with it from here on."""
    devices = comfy.model_management.get_all_torch_devices()
    try:
        ready = comfy_aimdo.control.init_devices((device.index, 0) for device in devices)
    except TypeError:  # older protocol
        ready = comfy_aimdo.control.init_devices(device.index for device in devices)
    if not ready:
        raise SystemExit("comfy-aimdo does not work on this card: Dynamic VRAM cannot be switched on.")
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
    return True


def model() -> comfy.model_patcher.ModelPatcher:
    """A MODEL as ComfyUI's loaders make it; Stable Diffusion 1.5 in full size, unless the check is small."""
    if SMALL:
        made = host.small_model().model
        devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        return comfy.model_patcher.CoreModelPatcher(made, *devices)
    drawn = host_model(comfy.supported_models.SD15, SD15).model.diffusion_model.state_dict()
    kind = torch.float16 if ON_GPU else torch.float32
    return comfy.sd.load_diffusion_model_state_dict({name: weight.to(kind) for name, weight in drawn.items()})


def prompts() -> dict[str, list]:
    if SMALL:
        return host.PROMPTS
    texts = [torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(seed)) for seed in (10, 11)]
    return {"positive": [[texts[0], {}]], "negative": [[texts[1], {}]]}


def timed(patcher: comfy.model_patcher.ModelPatcher) -> tuple[torch.Tensor, float]:
    """Sampled latents, and seconds of the second of two runs: the first loads the weights."""
    given = dict(steps=STEPS, **prompts())
    host.sampled(patcher, host.noise(FRAMES, side=SIDE), **given)
    began = time.perf_counter()
    made = host.sampled(patcher, host.noise(FRAMES, side=SIDE), **given)
    return made.float().cpu().contiguous(), time.perf_counter() - began


def main() -> None:
    dynamic = switch_on() if ON_GPU and WAY == "dynamic" else False
    patcher = model()
    native = host.apply(patcher, host.tuned_model(patcher))
    image, image_seconds = timed(patcher)
    tuned, native_seconds = timed(native)
    again, _ = timed(patcher)
    save_file({"image": image, "native": tuned, "again": again}, FILE)
    found = {"is_dynamic": dynamic and patcher.is_dynamic(), "version": comfyui_version.__version__}
    found |= {"image_seconds": image_seconds, "native_seconds": native_seconds}
    found["peak"] = torch.cuda.max_memory_allocated() if ON_GPU else None
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
