"""TAVLoadDemoModel: the small model that comes with the pack, to try all nodes without a download."""

from comfy_api.v0_0_2 import io

from .adapters.demo import load_demo
from .adapters.work import shows_work
from .sockets import CATEGORY


class LoadDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        captions = "Understands captions such as: a red person jumps on the beach, flat colours."
        return io.Schema(
            node_id="TAVLoadDemoModel",
            display_name="Load Bundled Model (Tune-A-Video)",
            category=CATEGORY,
            description="A small image model that comes with the pack and draws people, robots and animals at 128 x "
            "128 pixels. ComfyUI's own nodes run on it, KSampler included. Nothing is downloaded.",
            search_aliases=["demo model", "bundled model", "tune a video demo", "quickstart", "example model"],
            inputs=[],
            outputs=[
                io.Model.Output(
                    "model", display_name="MODEL", tooltip="Draws figures in six places, at 128 x 128 pixels."
                ),
                io.Clip.Output("clip", display_name="CLIP", tooltip=captions),
                io.Vae.Output(
                    "vae", display_name="VAE", tooltip="Latents of 16 x 16 and 16 channels for 128 x 128 pixels."
                ),
            ],
        )

    @classmethod
    @shows_work
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_demo())
