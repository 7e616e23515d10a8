"""TAVLoadTuned: tuned weights from a file, for an inflated model."""

from typing import Any

from comfy_api.v0_0_2 import io

from .. import tav_core
from .adapters.folders import check_file, file_stamp, tuned_file, tuned_files
from .adapters.handle import TavModel
from .adapters.work import shows_work
from .sockets import CATEGORY, TavModelSocket, widget


class LoadTuned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        strength = "1 is the tuning as it is, 0 the untuned model; values between fade it."
        return io.Schema(
            node_id="TAVLoadTuned",
            display_name="Load Tuned Weights",
            category=CATEGORY,
            description="Loads a saved tuning into the model that was tuned.",
            search_aliases=["load tuned model", "load tune a video", "import tuning"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The same base model, inflated, with the same LoRAs."),
                io.Combo.Input("file", options=tuned_files(), tooltip="A file in models/tune_a_video."),
                widget(io.Float, "strength", 1.0, strength, min=0.0, max=2.0, step=0.05),
            ],
            outputs=[TavModelSocket.Output("tav_model", display_name="TAV_MODEL", tooltip="The tuned model.")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        return check_file(file, tuned_file)

    @classmethod
    def fingerprint_inputs(cls, file: str | None, **others: Any) -> str:
        return file_stamp(file, tuned_file)

    @classmethod
    @shows_work
    def execute(cls, model: TavModel, file: str, strength: float) -> io.NodeOutput:
        notes = tav_core.load_tuned(model.video_unet, tuned_file(file))
        notes = {name: text for name, text in notes.items() if name not in ("format", "version")}
        return io.NodeOutput(model.with_current_weights(notes, strength))
