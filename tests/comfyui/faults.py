"""Custom nodes of the tests: a model or a VAE that runs out of memory, so many times from its n-th pass on."""

import torch


class Failing:
    """Raises the error of a full GPU instead of passes `first`, `first` + 1 ... `first` + `times` - 1."""

    def __init__(self, first, times):
        self.left_whole, self.left_failing = first - 1, times

    def __call__(self, *_):
        if self.left_whole:
            self.left_whole -= 1
        elif self.left_failing:
            self.left_failing -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


class RunOutOfMemory:
    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("TAV_MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        required = {"model": ("TAV_MODEL",), "at_pass": ("INT", {"default": 1, "min": 1})}
        return {"required": required, "optional": {"after": ("LATENT",)}}

    def execute(self, model, at_pass, after=None):
        model.video_unet.register_forward_pre_hook(Failing(at_pass, 1))
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


NODE_CLASS_MAPPINGS = {"TestRunOutOfMemory": RunOutOfMemory, "TestRunOutOfMemoryInVAE": RunOutOfMemoryInVAE}
