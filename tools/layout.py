"""Places of nodes in the example workflows: five columns, one for each stage, readable at 1280 x 800.

The page opens a file at the view that it holds. The template dialog fits the view to the nodes in place of that, so
that they fill `FILLED` of the window: they must lie within `BOUNDS`, whose height also keeps the titles of the groups
below the page's bars.
"""

from typing import Any

WINDOW, READABLE = (1280, 800), 0.7  # pixels; the least scale that is readable
FILLED, PADDING = 0.75, 10  # share of the window, and around the nodes: fitToBounds and createBounds of ComfyUI's page
WIDTHS, GAP, INNER = (240, 284, 270, 254, 240), 15, 8  # of columns, between columns, between nodes of a column
LEFTS = tuple(sum(WIDTHS[:column]) + column * GAP for column in range(len(WIDTHS)))
TITLE, BAND, MARGIN = 30, 40, 6  # of a node, of a group, around the nodes of a group
BADGE = 20  # above a node of a pack, in the old rendering
SHORT = {"TAVCompareVideos", "TAVPromptGrid"}  # so that a badge would cover the title of the group
COLUMNS = ("1  Your clip", "2  Model and words", "3  Tune and invert", "4  Edit", "5  Result")
COLOURS = ("#8A8", "#88A", "#A8A", "#8AA", "#b58b2a")
SCALE, LEFT, TOP = 0.75, 68, 92  # of the view as a file opens; pixels of the page's own bars
BOUNDS = (FILLED * WINDOW[0] / READABLE - 2 * PADDING, WINDOW[1] / READABLE - 2 * (TOP / READABLE + BAND))
EMPTY_TITLE, SECOND_TITLE = "Empty prompt", "Second clip"
COLLAPSED = {  # which need no setting
    "TAVCompareVideos", "TAVPromptGrid", "TAVApplyMotion", "ControlNetApplyAdvanced", "VAEEncode", "VAEDecode",
    "BasicScheduler", "FlipSigmas", "TAVInversionSampler",
}  # fmt: skip
# Column and height by type, or title: the larger of both renderings, with room for a report, a video or a missing file.
PLACES = {
    "MarkdownNote": (0, 142),
    "TAVLoadVideo": (0, 590),
    SECOND_TITLE: (1, 0),  # a second Load Clip, closed: its column has no room for it
    "TAVLoadDemoModel": (1, 136),
    "TAVLoadDemoControl": (1, 136),
    "ControlNetApplyAdvanced": (1, 0),
    "CheckpointLoaderSimple": (1, 140),
    "LoraLoader": (1, 175),
    "TAVPromptList": (1, 130),
    "CLIPTextEncode": (1, 105),
    "VAEEncode": (1, 0),
    "LoraLoaderModelOnly": (1, 150),
    "TAVInflateUNet": (2, 116),
    "TAVLoadTuned": (2, 170),
    "TAVOneShotTune": (2, 300),
    "TAVAnotherClip": (2, 145),
    "TAVSaveTuned": (2, 150),
    "TAVDDIMInvert": (2, 200),
    "TAVWordHeatMaps": (2, 270),
    "TAVApplyMotion": (2, 0),
    "TAVContextWindows": (2, 130),
    "BasicScheduler": (3, 0),
    "FlipSigmas": (3, 0),
    "TAVInversionSampler": (3, 0),
    "SamplerCustom": (3, 232),
    "KSamplerAdvanced": (3, 340),
    "TAVSample": (3, 600),
    "VAEDecode": (3, 0),
    "TAVSteady": (4, 130),
    "TAVCompareVideos": (4, 0),
    "TAVPromptGrid": (4, 0),
    "TAVSaveVideo": (4, 420),
    "CreateVideo": (4, 90),
    "PreviewImage": (4, 260),
}


def lay_out(nodes: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give each node its place and size, in the order of the list; returns the groups, and what the view opens at.

    Raises:
        ValueError: a column is longer than what the template dialog shows at a readable scale.
    """
    bottoms = [0] * len(COLUMNS)
    for node in nodes:
        column, height = PLACES.get(node.get("title", ""), PLACES[node["type"]])
        if _is_collapsed(node):
            node["flags"], height = {"collapsed": True}, 0
        if node["type"] in SHORT and bottoms[column] == 0:
            bottoms[column] = BADGE
        node["pos"] = [LEFTS[column], bottoms[column] + TITLE]
        node["size"] = [WIDTHS[column], height]
        bottoms[column] += TITLE + height + INNER
    for column, bottom in enumerate(bottoms):
        if bottom - INNER > BOUNDS[1]:
            raise ValueError(f"column {COLUMNS[column]} is {bottom - INNER} long, {BOUNDS[1]:.0f} is readable")
    used = [column for column, bottom in enumerate(bottoms) if bottom]
    groups = [_group(number, column, bottoms[column]) for number, column in enumerate(used, 1)]
    offset = [LEFT / SCALE + MARGIN, TOP / SCALE + BAND]
    return groups, {"ds": {"scale": SCALE, "offset": offset}}


def _is_collapsed(node: dict[str, Any]) -> bool:
    """Whether a node is closed: nothing to set, an empty prompt, one whose text is another node's, or no room."""
    linked = any("widget" in entry and entry["link"] is not None for entry in node["inputs"])
    prompt = node["type"] == "CLIPTextEncode" and (linked or node.get("title") == EMPTY_TITLE)
    return prompt or node["type"] in COLLAPSED or node.get("title") == SECOND_TITLE


def _group(number: int, column: int, bottom: int) -> dict[str, Any]:
    bounding = [LEFTS[column] - MARGIN, -BAND, WIDTHS[column] + 2 * MARGIN, bottom + BAND - INNER + MARGIN]
    return dict(id=number, title=COLUMNS[column], bounding=bounding, color=COLOURS[column], font_size=22, flags={})
