"""TAVSaveTuned: only the tuned weights, as a small file for later edits."""

from comfy_api.v0_0_2 import io, ui

from .. import tav_core
from .adapters.folders import TUNED_FOLDER, TUNED_SUFFIX, check_prefix, next_tuned_file
from .adapters.handle import TavModel
from .adapters.progress import show_text
from .adapters.work import shows_work
from .sockets import CATEGORY, TavModelSocket, widget


class SaveTuned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        prefix = "Beginning of the name, within models/tune_a_video; a number is added."
        return io.Schema(
            node_id="TAVSaveTuned",
            display_name="Save Tuned Weights",
            category=CATEGORY,
            description="Saves the tuned weights, without the base model, to a file in models/tune_a_video.",
            search_aliases=["save tuned model", "save tune a video", "export tuning"],
            is_output_node=True,
            inputs=[
                TavModelSocket.Input("model", tooltip="A tuned model."),
                widget(io.String, "filename_prefix", "tuned", prefix),
            ],
            outputs=[TavModelSocket.Output("tav_model", display_name="TAV_MODEL", tooltip="The same model.")],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """See `check_prefix`."""
        return check_prefix(filename_prefix, TUNED_SUFFIX)

    @classmethod
    @shows_work
    def execute(cls, model: TavModel, filename_prefix: str) -> io.NodeOutput:
        if model.tuned is None:
            raise ValueError("This model is not tuned yet. Connect the TAV_MODEL of One-Shot Tune.")
        path = next_tuned_file(filename_prefix)
        model.apply_weights(strength=1.0)
        tav_core.save_tuned(model.video_unet, path, metadata=model.notes)
        report = f"Saved as {path.name} in models/{TUNED_FOLDER}. Load Tuned Weights finds it after R (refresh)."
        show_text(report)
        return io.NodeOutput(model, ui=ui.PreviewText(report))
