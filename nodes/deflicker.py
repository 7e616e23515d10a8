"""TAVSteady: an edit deflickered along the optical flow of its clip."""

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from .. import tav_core
from .adapters.progress import Progress
from .adapters.work import shows_work
from .sockets import CATEGORY


class Deflicker(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSteady",
            display_name="Deflicker Edit (Tune-A-Video)",
            category=CATEGORY,
            description="Deflickers an edit: the change of each frame is averaged with its neighbours along the "
            "clip's optical flow. Pixels that the edit did not change are restored from the clip.",
            search_aliases=[
                "deflicker",
                "remove flicker",
                "temporal smoothing",
                "stabilize edit",
                "tune a video steady",
            ],
            inputs=[
                io.Image.Input("images", tooltip="The edit, from VAE Decode."),
                io.Image.Input("clip", tooltip="The frames that were edited, from Load Clip."),
                io.Image.Input(
                    "decoded_clip",
                    optional=True,
                    tooltip="The LATENT of VAE Encode, through VAE Decode: restores what the VAE loses of the clip "
                    "where nothing was edited.",
                ),
            ],
            outputs=[io.Image.Output("steadied", display_name="IMAGE", tooltip="The edit, for Save Clip.")],
        )

    @classmethod
    @shows_work
    def execute(cls, images: Any, clip: Any, decoded_clip: Any = None) -> io.NodeOutput:
        frames = [None if given is None else given[..., :3] for given in (images, clip, decoded_clip)]
        return io.NodeOutput(torch.stack(list(Progress(len(images)).over(tav_core.deflicker(*frames)))))
