"""TAVInflateUNet: the image model of a MODEL, made to see a clip."""

from typing import Any

from comfy_api.latest import io

from ..tav_core import inflate
from ..tav_core.unet.inflate import GROUP_NORM_MODES
from . import adapters
from .sockets import CATEGORY, TavModelSocket, advanced


class InflateUNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVInflateUNet",
            display_name="Inflate Model for Video",
            category=CATEGORY,
            description="Makes a video model of an image model: attention over the first and the former frame, and a "
            "new attention over time that starts as nothing. LoRAs on MODEL are in it; MODEL itself stays as it is. "
            "For Stable Diffusion 1.x and 2.x.",
            search_aliases=["inflate unet", "video unet", "tune a video model", "image to video model"],
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 1.x or 2.x, with LoRAs if you like."),
                advanced(
                    io.Combo,
                    "precision",
                    "auto",
                    "Of the weights that do not train; auto is what ComfyUI would run MODEL in, or float32 where that "
                    "cannot be tuned in. Weights that train are float32 always.",
                    options=["auto", "float32", "bfloat16", "float16"],
                ),
                advanced(
                    io.Combo,
                    "group_norm",
                    "video",
                    "video: normalise over all frames together, as published. frame: each frame by itself, as the "
                    "image model does.",
                    options=list(GROUP_NORM_MODES),
                ),
            ],
            outputs=[TavModelSocket.Output("tav_model", display_name="TAV_MODEL", tooltip="For One-Shot Tune.")],
        )

    @classmethod
    def execute(cls, model: Any, precision: str = "auto", group_norm: str = "video") -> io.NodeOutput:
        schedule = adapters.noise_schedule(model)
        unet = adapters.to_diffusers(model, adapters.compute_dtype(model, precision))
        return io.NodeOutput(adapters.hold(inflate(unet, group_norm=group_norm), schedule, model))
