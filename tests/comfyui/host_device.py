"""A custom node of the tests that simulates a GPU in the host: `tests/second_device.py`, lying beside it.

The host loads models onto it and unloads them, and the pack's nodes run on it, as on a card of 8 GiB.
COMFYUI_VRAM_STATE=NO_VRAM has the host load as little as it can, as --novram does (which --cpu excludes).
"""

import os

import comfy.model_management as host
import torch
from torch._subclasses.fake_tensor import FakeTensor

from .device import install

DEVICE, MEMORY = install(), 8 * 2**30


def of_the_device(found, torch_too):
    """`found` for the CPU, the made-up memory for the device."""

    def memory(dev=None, *args, **kwargs):
        if (dev or DEVICE).type == "cpu":
            return found(dev, *args, **kwargs)
        return (MEMORY, MEMORY) if args or kwargs.get(torch_too) else MEMORY

    return memory


host.get_total_memory = of_the_device(host.get_total_memory, "torch_total_too")
host.get_free_memory = of_the_device(host.get_free_memory, "torch_free_too")
host.cpu_state = host.CPUState.GPU
host.vram_state = host.VRAMState[os.environ.get("COMFYUI_VRAM_STATE", "NORMAL_VRAM")]
host.get_torch_device = lambda: DEVICE  # text is encoded on the CPU, as the host does without half precision
host.should_use_fp16 = host.should_use_bf16 = lambda *_, **__: False


class StaysOnTheDevice:
    """Fails if the model runs on the CPU."""

    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("TAV_MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("TAV_MODEL",)}}

    def execute(self, model):
        model.video_unet.register_forward_pre_hook(self.check)
        return (model,)

    @staticmethod
    def check(video_unet, inputs):
        if isinstance(inputs[0], FakeTensor):  # a plan is made
            return
        places = {parameter.device for parameter in video_unet.parameters()} | {inputs[0].device}
        assert places == {DEVICE} and not torch.is_inference_mode_enabled(), places


NODE_CLASS_MAPPINGS = {"TestStaysOnTheDevice": StaysOnTheDevice}
