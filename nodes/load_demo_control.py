"""TAVLoadDemoControl: the ControlNets of the bundled model, and what they follow in the bundled clip."""

from comfy_api.v0_0_2 import io

from .adapters.demo_control import load_demo_control
from .adapters.work import shows_work
from .sockets import CATEGORY, widget

HINTS = ["depth", "pose", "canny"]


class LoadDemoControl(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVLoadDemoControl",
            display_name="Load Bundled ControlNet (Tune-A-Video)",
            category=CATEGORY,
            description="A ControlNet for the bundled model, and the bundled clip's depth, pose or edges for it to "
            "follow. Connect both to Apply ControlNet. Nothing is downloaded.",
            search_aliases=["bundled controlnet", "demo controlnet", "depth", "pose", "canny", "control net"],
            inputs=[
                widget(
                    io.Combo,
                    "hint",
                    "depth",
                    "depth: brighter is nearer; holds outlines. pose: the joints as coloured bones; holds the motion "
                    "and leaves the shape free. canny: edges; holds every line.",
                    options=HINTS,
                ),
            ],
            outputs=[
                io.ControlNet.Output("control_net", display_name="CONTROL_NET", tooltip="For Apply ControlNet."),
                io.Image.Output(
                    "images", display_name="IMAGE", tooltip="The depth, pose or edges of the bundled clip's 24 frames."
                ),
            ],
        )

    @classmethod
    @shows_work
    def execute(cls, hint: str) -> io.NodeOutput:
        from ..tav_core.demo.clip import bundled_hints

        return io.NodeOutput(load_demo_control(hint), bundled_hints(hint))
