"""TAVInflateUNet: a video model from the image model of a MODEL."""

from typing import Any

from comfy_api.v0_0_2 import io, ui

from .. import tav_core
from .adapters.convert import noise_schedule, to_diffusers
from .adapters.handle import compute_dtype, hold
from .adapters.progress import show_text
from .adapters.work import shows_work
from .sockets import CATEGORY, TavModelSocket, advanced


class InflateUNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        precision = (
            "Of the weights that are not trained; auto is the type in which ComfyUI would run MODEL, or float32 where "
            "that type cannot be tuned. Trained weights are always float32."
        )
        group_norm = (
            "video: normalise over all frames together, as published. frame: each frame separately, as the image model "
            "does."
        )
        lora_rank = (
            "0: train the weights themselves, as published. 4 to 32: train low-rank updates (LoRA) in their place, "
            "which takes less memory and makes smaller files, as SDXL needs. It needs the package peft."
        )
        return io.Schema(
            node_id="TAVInflateUNet",
            display_name="Inflate Model for Video",
            category=CATEGORY,
            description="Makes a video model from an image model: attention over the first and the previous frame, "
            "and a new temporal attention that has no effect at first. LoRAs on MODEL are included; MODEL does not "
            "change. For Stable Diffusion 1.x, 2.x and XL.",
            search_aliases=["inflate unet", "video unet", "tune a video model", "image to video model"],
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 1.x, 2.x or XL, with LoRAs if you like."),
                advanced(io.Combo, "precision", "auto", precision, options=["auto", "float32", "bfloat16", "float16"]),
                advanced(io.Combo, "group_norm", "video", group_norm, options=["video", "frame"]),
                advanced(io.Int, "lora_rank", 0, lora_rank, min=0, max=256),
            ],
            outputs=[TavModelSocket.Output("tav_model", display_name="TAV_MODEL", tooltip="For One-Shot Tune.")],
        )

    @classmethod
    @shows_work
    def execute(
        cls, model: Any, precision: str = "auto", group_norm: str = "video", lora_rank: int = 0
    ) -> io.NodeOutput:
        schedule = noise_schedule(model)
        unet = to_diffusers(model, compute_dtype(model, precision))
        held = hold(tav_core.inflate(unet, group_norm=group_norm, lora_rank=lora_rank), schedule, model)
        report = _recognised(schedule)
        show_text(report)
        return io.NodeOutput(held, ui=ui.PreviewText(report))


def _recognised(schedule: tav_core.NoiseSchedule) -> str:
    """What the model predicts, and whether its last noise level holds no signal."""
    kind = "velocity (v-prediction)" if schedule.prediction_type == "v_prediction" else "noise (epsilon)"
    zero = ", zero terminal SNR" if schedule.has_zero_snr else ""
    return f"The model predicts {kind}{zero}."
