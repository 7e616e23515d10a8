"""TAVAnotherClip: one more clip of the same motion with its caption, for One-Shot Tune."""

from typing import Any

from comfy_api.v0_0_2 import io

from .adapters.clips import HostClip
from .adapters.starts import raise_if_blank
from .sockets import CATEGORY, TavClipsSocket


class AnotherClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        latents = "The clip, from VAE Encode: as many frames of the same size as the first one."
        caption = "What this clip shows, from a CLIP Text Encode of its own."
        fps = "Frames per second, from Load Clip, to be compared with those of the other clips."
        clips = "From an earlier Another Clip, for three clips and more."
        return io.Schema(
            node_id="TAVAnotherClip",
            display_name="Another Clip (Tune-A-Video)",
            category=CATEGORY,
            description="One more clip of the same motion, under its own caption. One-Shot Tune learns from all "
            "of them what they have in common: the motion. Chain several for more.",
            search_aliases=["more clips", "several clips", "second clip", "motion customization", "motion director"],
            inputs=[
                io.Latent.Input("latents", tooltip=latents),
                io.Conditioning.Input("caption", tooltip=caption),
                io.Float.Input("fps", optional=True, force_input=True, min=0.0, max=1000.0, tooltip=fps),
                TavClipsSocket.Input("clips", optional=True, tooltip=clips),
            ],
            outputs=[TavClipsSocket.Output("more_clips", display_name="TAV_CLIPS", tooltip="For One-Shot Tune.")],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls, latents: dict, caption: Any, fps: float | None = None, clips: tuple[HostClip, ...] = ()
    ) -> io.NodeOutput:
        raise_if_blank(cls.hidden.prompt, "caption", "write what this clip shows")
        return io.NodeOutput((*clips, HostClip(latents, caption, fps)))
