"""TAVEvaluate: measure an edit against its source."""

import json
from typing import Any

from comfy_api.v0_0_2 import io, ui

from .adapters.data import mask_frames, plot_image
from .adapters.encoders import NO_ENCODER, encoder_folders, load_encoders
from .adapters.progress import show_text
from .adapters.work import shows_work
from .sockets import CATEGORY, advanced, widget

ENCODERS = {  # what their folders hold
    "clip": "CLIP in transformers' layout; clip-vit-large-patch14 for published numbers",
    "pickscore": "PickScore_v1 with its processor",
    "dino": "DINOv2; dinov2-base for published numbers",
}


class Evaluate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        source_prompt = "The source's caption: adds the share of frames that are closer to the edit's prompt."
        folder = "A folder in models/tune_a_video_encoders with"
        return io.Schema(
            node_id="TAVEvaluate",
            display_name="Evaluate Edit",
            category=CATEGORY,
            description="Measures an edit against its source: fidelity, flicker and motion. With CLIP, PickScore or "
            "DINOv2 on disk it also measures consistency and agreement with the prompt, as published papers do.",
            search_aliases=["metrics", "clip score", "pickscore", "psnr", "ssim", "frame consistency", "measure edit"],
            is_output_node=True,
            inputs=[
                io.Image.Input("source", tooltip="The clip before the edit, at the edit's size."),
                io.Image.Input("edit", tooltip="The edit. The longer clip is cut to the length of the shorter."),
                widget(io.String, "prompt", "", "What the edit should show, for CLIP and PickScore."),
                widget(io.String, "source_prompt", "", source_prompt, optional=True),
                *(
                    advanced(io.Combo, name, NO_ENCODER, f"{folder} {what}.", options=encoder_folders(name))
                    for name, what in ENCODERS.items()
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the edit should change the picture, one for all frames or one for each: adds the "
                    "background PSNR.",
                ),
            ],
            outputs=[
                io.String.Output("report", display_name="report", tooltip="A table of the measures."),
                io.Image.Output("plot", display_name="plot", tooltip="The measures over the frames."),
                io.String.Output("figures", display_name="figures", tooltip="The measures as JSON, null if undefined."),
            ],
        )

    @classmethod
    @shows_work
    def execute(
        cls,
        source: Any,
        edit: Any,
        prompt: str,
        source_prompt: str = "",
        mask: Any = None,
        **encoders: str,
    ) -> io.NodeOutput:
        from ..tav_core.evaluation import evaluate, format_table
        from ..tav_core.viz.figures import save_curves

        count = min(len(source), len(edit))
        before, after = source[:count, ..., :3], edit[:count, ..., :3]
        covered = None if mask is None else mask_frames(mask, count)
        result = evaluate(before, after, prompt, source_prompt or None, load_encoders(**encoders), covered)
        report = format_table(result.figures)
        show_text(report)
        plot = plot_image(save_curves, result.curves)
        return io.NodeOutput(report, plot, json.dumps(result.figures), ui=ui.PreviewText(report))
