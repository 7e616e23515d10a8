"""TAVPromptGrid: the edits of a list of prompts, each under its prompt, next to the clip."""

from typing import Any

from comfy_api.v0_0_2 import io

from .adapters.work import shows_work
from .compare_videos import captioned
from .sockets import CATEGORY, advanced, widget

MAX_PANELS = 16


class PromptGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVPromptGrid",
            display_name="Prompt Grid (Tune-A-Video)",
            category=CATEGORY,
            description="Puts the edits of a Prompt List side by side, each under its prompt, and the clip before "
            "them. All play in step.",
            search_aliases=["video grid", "xy plot", "label grid", "compare prompts", "contact sheet"],
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The edits, from VAE Decode or Deflicker Edit."),
                io.String.Input("prompts", force_input=True, tooltip="Their captions, from Prompt List."),
                io.Image.Input("clip", optional=True, tooltip="The frames that were edited, from Load Clip."),
                widget(io.String, "clip_caption", "source", "The text above the clip.", optional=True),
                advanced(io.Int, "columns", 2, "Clips in a row.", min=1, max=MAX_PANELS),
                advanced(io.Int, "enlarge", 1, "Repeats pixels; 2 for small clips.", min=1, max=8),
            ],
            outputs=[io.Image.Output("images", display_name="IMAGE", tooltip="The grid, for Save Clip.")],
        )

    @classmethod
    @shows_work
    def execute(
        cls,
        images: list[Any],
        prompts: list[str],
        clip: list[Any] | None = None,
        clip_caption: list[str] | None = None,
        columns: list[int] | None = None,
        enlarge: list[int] | None = None,
    ) -> io.NodeOutput:
        from ..tav_core.viz.figures import side_by_side

        if len(images) != len(prompts):
            raise ValueError(
                f"There are {len(images)} edits and {len(prompts)} prompts: connect the Prompt List that made the "
                "edits."
            )
        if len(images) >= MAX_PANELS:
            raise ValueError(f"A grid holds at most {MAX_PANELS - 1} edits, got {len(images)}. Shorten Prompt List.")
        source = [(clip_caption[0] if clip_caption else "source", clip[0])] if clip else []
        clips = captioned([*source, *zip(prompts, images, strict=True)])
        row, times = (columns or [2])[0], (enlarge or [1])[0]
        return io.NodeOutput(side_by_side(clips, columns=min(row, len(clips)), enlarge=times))
