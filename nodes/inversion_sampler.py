"""TAVInversionSampler: DDIM inversion as a SAMPLER, for ComfyUI's SamplerCustom."""

from comfy_api.v0_0_2 import io

from .adapters.native.inversion import inversion_sampler
from .sockets import CATEGORY


class InversionSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        sampler = (
            "For SamplerCustom: add_noise off, cfg 1, the clip's LATENT, and Flip Sigmas after BasicScheduler with "
            "ddim_uniform. KSampler (Advanced) with add_noise off samples the edit from its LATENT."
        )
        return io.Schema(
            node_id="TAVInversionSampler",
            display_name="DDIM Inversion Sampler (Tune-A-Video)",
            category=CATEGORY,
            description="Inverts the clip to noise with ComfyUI's own SamplerCustom and the MODEL of Apply Motion.",
            search_aliases=["ddim inversion", "unsampler", "invert latent", "inversion sampler"],
            inputs=[],
            outputs=[io.Sampler.Output("sampler", display_name="SAMPLER", tooltip=sampler)],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(inversion_sampler())
