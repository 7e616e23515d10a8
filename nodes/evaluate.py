"""TAVEvaluate: measure an edit against its source."""

import json
from typing import Any

import numpy as np
from comfy_api.latest import io, ui

from ..tav_core.evaluation import evaluate, format_table
from ..tav_core.viz.figures import save_curves
from . import adapters
from .sockets import CATEGORY


class Evaluate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVEvaluate",
            display_name="Evaluate Edit",
            category=CATEGORY,
            description="Measures an edit against its source: likeness, flicker and motion; with CLIP, PickScore or "
            "DINOv2 on disk also consistency and agreement with the prompt, as the field defines them.",
            search_aliases=["metrics", "clip score", "pickscore", "psnr", "ssim", "frame consistency", "measure edit"],
            is_output_node=True,
            inputs=[
                io.Image.Input("source", tooltip="The clip before the edit, at the edit's size."),
                io.Image.Input("edit", tooltip="The edit. The longer one of the two ends with the shorter."),
                io.String.Input("prompt", default="", tooltip="What the edit was to show; CLIP and PickScore read it."),
                io.String.Input(
                    "source_prompt",
                    default="",
                    tooltip="The source's caption: adds the share of frames that are closer to the edit's prompt.",
                    optional=True,
                ),
                *(
                    io.Combo.Input(
                        name,
                        options=adapters.encoder_folders(model_type),
                        default=adapters.NO_ENCODER,
                        tooltip=f"A folder in models/tune_a_video_encoders with {what}.",
                        optional=True,
                        advanced=True,
                    )
                    for name, model_type, what in (
                        ("clip", "clip", "CLIP in transformers' layout; clip-vit-large-patch14 for published figures"),
                        ("pickscore", "clip", "PickScore_v1 and the processor that belongs to it"),
                        ("dino", "dinov2", "DINOv2; dinov2-base for published figures"),
                    )
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the edit was to change the picture, once or a frame each: adds the background PSNR.",
                ),
            ],
            outputs=[
                io.String.Output("report", display_name="report", tooltip="A table of the measures."),
                io.Image.Output("plot", display_name="plot", tooltip="How the measures run over the frames."),
                io.String.Output("figures", display_name="figures", tooltip="The measures as JSON, null if undefined."),
            ],
        )

    @classmethod
    def execute(
        cls,
        source: Any,
        edit: Any,
        prompt: str,
        source_prompt: str = "",
        clip: str = adapters.NO_ENCODER,
        pickscore: str = adapters.NO_ENCODER,
        dino: str = adapters.NO_ENCODER,
        mask: Any = None,
    ) -> io.NodeOutput:
        count = min(len(source), len(edit))
        before, after = source[:count, ..., :3], edit[:count, ..., :3]
        covered = None if mask is None else _mask_of_each_frame(mask, count)
        encoders = adapters.load_encoders(clip, pickscore, dino)
        result = evaluate(before, after, prompt, source_prompt or None, encoders, covered)
        report = format_table(result.figures)
        plot = adapters.plot_image(lambda file: save_curves(file, result.curves))
        return io.NodeOutput(report, plot, json.dumps(result.figures), ui=ui.PreviewText(report))


def _mask_of_each_frame(mask: Any, count: int) -> np.ndarray:
    frames = mask[:1].expand(count, -1, -1) if len(mask) == 1 else mask[:count]
    return frames.cpu().numpy()
