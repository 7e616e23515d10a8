"""TAVCompareVideos: clips side by side, each under its caption."""

from collections.abc import Sequence
from typing import Any

from comfy_api.v0_0_2 import io

from .adapters.work import shows_work
from .sockets import CATEGORY, advanced, widget

CAPTIONS = ("source", "edit", "", "", "", "")  # as they stand at first, one for each clip
PANELS = len(CAPTIONS)


class CompareVideos(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        images = "Frames of a clip; all of one size."
        text = "The text above it, in any script that an installed font covers."
        panels: list[io.Input] = []
        for number, caption in enumerate(CAPTIONS, start=1):
            more = number > 2
            panels.append(io.Image.Input(f"images_{number}", optional=more, tooltip=images))
            panels.append(widget(io.String, f"caption_{number}", caption, text, optional=True, advanced=more))
        return io.Schema(
            node_id="TAVCompareVideos",
            display_name="Compare Videos",
            category=CATEGORY,
            description="Puts clips side by side, each under its caption, to play in step: before and after an edit. "
            "Longer clips are cut to the shortest one's length.",
            search_aliases=["compare clips", "side by side", "video grid", "before after"],
            inputs=[
                *panels,
                advanced(io.Int, "columns", 3, "Clips in a row.", min=1, max=PANELS),
                advanced(io.Int, "enlarge", 1, "Repeats pixels; 2 for small clips.", min=1, max=8),
            ],
            outputs=[io.Image.Output("images", display_name="IMAGE", tooltip="The comparison, for Save Clip.")],
        )

    @classmethod
    @shows_work
    def execute(cls, columns: int = 3, enlarge: int = 1, **panels: Any) -> io.NodeOutput:
        from ..tav_core.viz.figures import side_by_side

        numbers = [number for number in range(1, PANELS + 1) if panels.get(f"images_{number}") is not None]
        clips = captioned([(panels.get(f"caption_{number}"), panels[f"images_{number}"]) for number in numbers])
        return io.NodeOutput(side_by_side(clips, columns=min(columns, len(clips)), enlarge=enlarge))


def captioned(panels: Sequence[tuple[str | None, Any]]) -> dict[str, Any]:
    """Caption -> frames, as many of each clip as the shortest has.

    A number replaces a caption in which no installed font covers any letter. The second of two equal captions gets a
    number too.

    Raises:
        ValueError: the clips have different sizes.
    """
    from ..tav_core.viz.captions import drawable

    clips = [frames[..., :3].cpu() for _, frames in panels]
    sizes = {(frames.shape[2], frames.shape[1]) for frames in clips}
    if len(sizes) > 1:
        shown = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise ValueError(f"Clips side by side have one size, and these have {shown}. Scale them to one size first.")
    shortest = min(len(frames) for frames in clips)
    found: dict[str, Any] = {}
    for number, ((text, _), frames) in enumerate(zip(panels, clips, strict=True), 1):
        _, caption = drawable(text or "")
        caption = caption.strip() or f"clip {number}"
        found[f"{caption} ({number})" if caption in found else caption] = frames[:shortest]
    return found
