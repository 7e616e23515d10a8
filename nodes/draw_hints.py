"""TAVDrawHints: edges or lines of a clip, for a ControlNet to follow."""

from typing import Any

from comfy_api.v0_0_2 import io

from .. import tav_core
from .adapters.work import shows_work
from .sockets import CATEGORY, widget

HINTS = ["canny", "lineart"]


class DrawHints(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVDrawHints",
            display_name="Draw Hints (Tune-A-Video)",
            category=CATEGORY,
            description="Draws the edges or lines of each frame, white on black, for a ControlNet. No model is needed. "
            "For depth and pose use a preprocessor of another pack.",
            search_aliases=["canny", "lineart", "controlnet preprocessor", "edge detection", "line art", "hints"],
            inputs=[
                io.Image.Input("images", tooltip="The frames of the clip, from Load Clip."),
                widget(
                    io.Combo,
                    "hint",
                    "canny",
                    "canny: edges, for a Canny ControlNet. lineart: dark lines, for a Lineart ControlNet.",
                    options=HINTS,
                ),
            ],
            outputs=[io.Image.Output("hints", display_name="IMAGE", tooltip="For Apply ControlNet, one a frame.")],
        )

    @classmethod
    @shows_work
    def execute(cls, images: Any, hint: str) -> io.NodeOutput:
        return io.NodeOutput(tav_core.draw_hints(hint, images[..., :3]))
