"""TAVApplyMotion: the tuned clip inside ComfyUI's own MODEL, for its samplers, ControlNets and LoRAs."""

from typing import Any

from comfy_api.v0_0_2 import io

from .adapters.handle import TavModel
from .adapters.native.apply import apply_motion
from .adapters.work import shows_work
from .sockets import CATEGORY, TavModelSocket, widget


class ApplyMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        model = (
            "The checkpoint that was tuned, or another one of its family: a style, a merge, with LoRAs. Connect a "
            "LoRA here again if it was on the tuned MODEL."
        )
        strength = "1 is the tuning as it is, 0 the untuned model; values between fade it."
        return io.Schema(
            node_id="TAVApplyMotion",
            display_name="Apply Motion (Tune-A-Video)",
            category=CATEGORY,
            description="Puts the tuned clip into a MODEL, so that KSampler, ControlNet, LoRAs and other nodes of "
            "ComfyUI sample it. The frames of the clip are the batch of its LATENT.",
            search_aliases=["tune a video ksampler", "native model", "apply tuning", "motion model", "video model"],
            inputs=[
                io.Model.Input("model", tooltip=model),
                TavModelSocket.Input("tav_model", tooltip="From One-Shot Tune or Load Tuned Weights."),
                widget(io.Float, "strength", 1.0, strength, min=0.0, max=2.0, step=0.05),
            ],
            outputs=[io.Model.Output("motion", display_name="MODEL", tooltip="For KSampler. It denoises whole clips.")],
        )

    @classmethod
    @shows_work
    def execute(cls, model: Any, tav_model: TavModel, strength: float) -> io.NodeOutput:
        return io.NodeOutput(apply_motion(model, tav_model, strength))
