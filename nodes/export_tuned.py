"""TAVExportTuned: a tuning as a LoRA for still images, or its temporal part, for other programs."""

from comfy_api.v0_0_2 import io, ui

from .. import tav_core
from .adapters.folders import TUNED_SUFFIX, check_prefix, next_lora_file, next_tuned_file
from .adapters.handle import TavModel
from .adapters.progress import show_text
from .adapters.work import shows_work
from .sockets import CATEGORY, TavModelSocket, widget

LORA, DIFFERENCE, TEMPORAL = KINDS = ("lora", "diff", "temporal")


class ExportTuned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        kind = (
            "lora: what tuning added to the image model, as a small LoRA. diff: the same without loss. Both for Load "
            "LoRA, for still images. temporal: the temporal attention, for other programs."
        )
        error = "Of a LoRA: the part of each matrix that may be lost. Less takes a higher rank and a larger file."
        prefix = "Beginning of the name, within models/loras or, for temporal, models/tune_a_video; a number is added."
        return io.Schema(
            node_id="TAVExportTuned",
            display_name="Export Tuning (Tune-A-Video)",
            category=CATEGORY,
            description="Writes a tuning for other programs: a LoRA that Load LoRA takes for still images in the look "
            "of the clip, or the temporal attention.",
            search_aliases=["export lora", "tuning to lora", "extract lora", "save lora"],
            is_output_node=True,
            inputs=[
                TavModelSocket.Input("model", tooltip="A tuned model."),
                io.Combo.Input("kind", options=list(KINDS), default=LORA, tooltip=kind),
                widget(io.Float, "error", 0.1, error, min=0.001, max=0.9, step=0.01),
                widget(io.String, "filename_prefix", "tuned", prefix),
            ],
            outputs=[io.String.Output("report", display_name="report", tooltip="The file, its ranks and its error.")],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """See `check_prefix`."""
        return check_prefix(filename_prefix, TUNED_SUFFIX)

    @classmethod
    @shows_work
    def execute(cls, model: TavModel, kind: str, error: float, filename_prefix: str) -> io.NodeOutput:
        path = (next_tuned_file if kind == TEMPORAL else next_lora_file)(filename_prefix)
        model.apply_weights(strength=1.0)
        written = tav_core.export_tuned(model.video_unet, path, kind, error=error, metadata=model.notes)
        report = f"Saved {path.name}. {written.summary}".strip()
        show_text(report)
        return io.NodeOutput(report, ui=ui.PreviewText(report))
