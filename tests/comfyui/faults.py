"""A custom node of the tests: a model that runs out of memory at its n-th pass, once."""

import torch


class RunOutOfMemory:
    CATEGORY, FUNCTION = "tests", "execute"
    RETURN_TYPES = ("TAV_MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        required = {"model": ("TAV_MODEL",), "at_pass": ("INT", {"default": 1, "min": 1})}
        return {"required": required, "optional": {"after": ("LATENT",)}}

    def execute(self, model, at_pass, after=None):
        passes = 0

        def count(*_):
            nonlocal passes
            passes += 1
            if passes == at_pass:
                hook.remove()
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

        hook = model.video_unet.register_forward_pre_hook(count)
        return (model,)


NODE_CLASS_MAPPINGS = {"TestRunOutOfMemory": RunOutOfMemory}
