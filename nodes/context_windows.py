"""TAVContextWindows: clips longer than were tuned, in overlapping windows."""

from typing import Any

from comfy_api.v0_0_2 import io

from .adapters.native.windows import with_windows
from .sockets import CATEGORY, widget


class ContextWindows(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        length = "Frames of a window: as many as the clip that was tuned. Shorter clips are sampled as a whole."
        overlap = "Frames that neighbouring windows share. More hide the seams and take longer."
        return io.Schema(
            node_id="TAVContextWindows",
            display_name="Context Windows (Tune-A-Video)",
            category=CATEGORY,
            description="Samples a long clip in overlapping windows, each led by the first frame and the one before "
            "it. ControlNet hints, masks and conditions of single frames are cut to the window.",
            search_aliases=["context windows", "long video", "sliding window", "more frames"],
            inputs=[
                io.Model.Input("model", tooltip="From Apply Motion, before or after other nodes."),
                widget(io.Int, "context_length", 16, length, min=1, max=1024),
                widget(io.Int, "overlap", 4, overlap, min=0, max=1023),
            ],
            outputs=[io.Model.Output("windows", display_name="MODEL", tooltip="For KSampler.")],
        )

    @classmethod
    def execute(cls, model: Any, context_length: int, overlap: int) -> io.NodeOutput:
        return io.NodeOutput(with_windows(model, context_length, overlap))
