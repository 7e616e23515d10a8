"""Custom nodes of the tests: a model or a VAE that runs out of memory, so many times from its n-th pass on; a host that
reports a given amount of memory; any value for a widget; a video and a model that are slow.
"""

import json
import time
from fractions import Fraction
from functools import partial
from typing import ClassVar

import comfy.model_management as host
import torch
from comfy_api.latest import InputImpl, Types

FULL = {
    "torch": partial(torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 GiB."),
    "cuDNN": partial(RuntimeError, "GET was unable to find an engine to execute this computation"),
}


class Failing:
    """Raises the error of a full GPU instead of passes `first`, `first` + 1 ... `first` + `times` - 1."""

    def __init__(self, first, times, error="torch"):
        self.left_whole, self.left_failing, self.error = first - 1, times, FULL[error]

    def __call__(self, *_):
        if self.left_whole:
            self.left_whole -= 1
        elif self.left_failing:
            self.left_failing -= 1
            raise self.error()


class RunOutOfMemory:
    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("TAV_MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        required = {"model": ("TAV_MODEL",), "at_pass": ("INT", {"default": 1, "min": 1}), "error": (list(FULL),)}
        return {"required": required, "optional": {"after": ("LATENT",)}}

    def execute(self, model, at_pass, error, after=None):
        model.video_unet.register_forward_pre_hook(Failing(at_pass, 1, error))
        return (model,)


class RunOutOfMemoryInVAE:
    """In decoding alone. The host answers the first time by decoding in tiles."""

    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("VAE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae": ("VAE",), "times": ("INT", {"default": 1, "min": 0})}}

    def execute(self, vae, times):
        vae.first_stage_model.vae.decoder.register_forward_pre_hook(Failing(1, times))
        return (vae,)


class OddVideo:
    """A VIDEO of 12 frames of another node, 63 x 64 with alpha, at 8 a second: no encoder takes it."""

    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("VIDEO",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def execute(self):
        components = Types.VideoComponents(images=torch.full((12, 64, 63, 4), 0.8), frame_rate=Fraction(8))
        return (InputImpl.VideoFromComponents(components),)


class FreeMemory:
    """Makes the host report so much free memory or, at 0, the real amount."""

    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("TAV_MODEL",)
    found_by_the_host: ClassVar = []

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("TAV_MODEL",), "mebibytes": ("INT", {"default": 0, "min": 0, "max": 10**9})}}

    def execute(self, model, mebibytes):
        def made_up(device=None, torch_free_too=False):
            return (mebibytes * 2**20, mebibytes * 2**20) if torch_free_too else mebibytes * 2**20

        if not self.found_by_the_host:
            self.found_by_the_host.append(host.get_free_memory)
        host.get_free_memory = made_up if mebibytes else self.found_by_the_host[0]
        return (model,)


class Anything:
    """Any value, for a linked widget."""

    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("*",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("STRING", {"default": "null"})}}

    def execute(self, value):
        return (json.loads(value),)


class SlowVideo(OddVideo):
    """A VIDEO of 4 frames of 64 x 64 that takes so many seconds to read."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 0.0, "min": 0.0})}}

    def execute(self, seconds):
        class Slow(InputImpl.VideoFromComponents):
            def get_components(self):
                time.sleep(seconds)
                return super().get_components()

        components = Types.VideoComponents(images=torch.rand(4, 64, 64, 3), frame_rate=Fraction(8))
        return (Slow(components),)


class SlowModel:
    """Each pass takes so many seconds more."""

    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("TAV_MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("TAV_MODEL",), "seconds": ("FLOAT", {"default": 0.0, "min": 0.0})}}

    def execute(self, model, seconds):
        model.video_unet.register_forward_pre_hook(lambda *_: time.sleep(seconds))
        return (model,)


NODE_CLASS_MAPPINGS = {
    "TestSlowVideo": SlowVideo,
    "TestSlowModel": SlowModel,
    "TestAnything": Anything,
    "TestRunOutOfMemory": RunOutOfMemory,
    "TestRunOutOfMemoryInVAE": RunOutOfMemoryInVAE,
    "TestFreeMemory": FreeMemory,
    "TestOddVideo": OddVideo,
}
