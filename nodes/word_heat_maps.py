"""TAVWordHeatMaps: where each word of a prompt acts in a clip."""

from typing import Any

from comfy_api.v0_0_2 import io

from .. import tav_core
from ..tav_core import SamplingConfig
from .adapters.data import clip_latents
from .adapters.handle import TavModel, loaded
from .adapters.progress import Progress
from .adapters.words import encode_words
from .adapters.work import shows_work
from .sockets import CATEGORY, SHARE, TavModelSocket, advanced, widget


class WordHeatMaps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        mask_words = "Words of the prompt, with spaces between. The mask covers where they act; empty: the whole frame."
        threshold = "Heat from which the mask is 1, relative to each word's hottest spot; 0 for a soft mask."
        return io.Schema(
            node_id="TAVWordHeatMaps",
            display_name="Word Heat Maps (Tune-A-Video)",
            category=CATEGORY,
            description="Shows where each word of a prompt acts in a clip or an edit, and makes a mask of chosen words "
            "for a source-preserving edit.",
            search_aliases=["daam", "attention maps", "cross attention", "word mask", "prompt mask", "heatmap"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The model, tuned or not."),
                io.Latent.Input("latents", tooltip="The clip, from VAE Encode, or an edit, from Sample Edit."),
                io.Image.Input("images", tooltip="The frames of these latents, to be shown under the maps."),
                io.Clip.Input("clip", tooltip="Of the model's checkpoint."),
                io.String.Input(
                    "prompt", multiline=True, tooltip="What the latents show: the clip's caption, or the edit's prompt."
                ),
                widget(io.String, "mask_words", "", mask_words, optional=True),
                advanced(io.Float, "threshold", 0.3, threshold, **SHARE),
            ],
            outputs=[
                io.Image.Output("images", display_name="IMAGE", tooltip="A panel for each word, for Save Clip."),
                io.Mask.Output("mask", display_name="MASK", tooltip="Where the mask words act, for Sample Edit."),
            ],
        )

    @classmethod
    @shows_work
    def execute(
        cls,
        model: TavModel,
        latents: dict,
        images: Any,
        clip: Any,
        prompt: str,
        mask_words: str = "",
        threshold: float = 0.3,
    ) -> io.NodeOutput:
        from ..tav_core.editing.heat_maps import NUM_LEVELS, word_mask
        from ..tav_core.viz.heat_maps import heat_map_grid

        shown, frames = clip_latents(latents, model), images[..., :3].cpu()
        text, words = encode_words(clip, prompt, model, shown)
        with loaded(model, shown, SamplingConfig(guidance_scale=1.0)) as video_unet:
            steps = tav_core.heat_maps(video_unet, shown, text, model.schedule)
            *_, last = Progress(NUM_LEVELS).over(steps, lambda _: "heat maps")
        maps = tav_core.word_heat_maps(last.maps.cpu(), words)
        size = tuple(frames.shape[1:3])
        return io.NodeOutput(heat_map_grid(frames, maps), word_mask(maps, mask_words.split(), size, threshold))
