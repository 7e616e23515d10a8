"""Places of nodes in the example workflows: five columns, one for each stage, readable at 1280 x 800."""

from typing import Any

WIDTH, GAP, INNER = 300, 40, 12  # of columns, between columns, between nodes of a column
TITLE, BAND, MARGIN = 30, 40, 10  # of a node, of a group, around the nodes of a group
COLUMNS = ("1  Your clip", "2  Model and words", "3  Tune and invert", "4  Edit", "5  Result")
COLOURS = ("#8A8", "#88A", "#A8A", "#8AA", "#b58b2a")
SCALE, LEFT, TOP = 0.7, 68, 92  # of the view as it opens; pixels of the page's own bars
COLLAPSED = {  # which need no setting
    "TAVCompareVideos", "TAVPromptGrid", "TAVApplyMotion", "ControlNetApplyAdvanced",
    "BasicScheduler", "FlipSigmas", "TAVInversionSampler",
}  # fmt: skip
# Column and height by type: the larger one of both renderings, with room for a report, a video or a missing file.
PLACES = {
    "MarkdownNote": (0, 150),
    "TAVLoadVideo": (0, 690),
    "TAVLoadDemoModel": (1, 100),
    "TAVLoadDemoControl": (1, 110),
    "ControlNetApplyAdvanced": (1, 0),
    "TAVWordHeatMaps": (2, 260),
    "CheckpointLoaderSimple": (1, 140),
    "LoraLoader": (1, 175),
    "TAVPromptList": (1, 120),
    "CLIPTextEncode": (1, 95),
    "VAEEncode": (1, 62),
    "TAVInflateUNet": (2, 120),
    "TAVLoadTuned": (2, 130),
    "TAVOneShotTune": (2, 480),
    "TAVSaveTuned": (2, 130),
    "TAVDDIMInvert": (2, 220),
    "LoraLoaderModelOnly": (1, 150),
    "TAVApplyMotion": (2, 0),
    "TAVContextWindows": (2, 120),
    "BasicScheduler": (3, 0),
    "FlipSigmas": (3, 0),
    "TAVInversionSampler": (3, 0),
    "SamplerCustom": (3, 260),
    "KSamplerAdvanced": (3, 380),
    "TAVSample": (3, 560),
    "VAEDecode": (3, 62),
    "TAVSteady": (3, 120),
    "TAVCompareVideos": (4, 0),
    "TAVPromptGrid": (4, 0),
    "TAVSaveVideo": (4, 420),
    "CreateVideo": (4, 80),
    "PreviewImage": (4, 260),
}


def lay_out(nodes: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give each node its place and size, in the order of the list; returns the groups, and what the view opens at."""
    bottoms = [0] * len(COLUMNS)
    for node in nodes:
        column, height = PLACES[node["type"]]
        node["pos"] = [column * (WIDTH + GAP), bottoms[column] + TITLE]
        node["size"] = [WIDTH, height]
        if node["type"] in COLLAPSED:
            node["flags"] = {"collapsed": True}
        bottoms[column] += TITLE + height + INNER
    used = [column for column, bottom in enumerate(bottoms) if bottom]
    groups = [_group(number, column, bottoms[column]) for number, column in enumerate(used, 1)]
    offset = [LEFT / SCALE + MARGIN, TOP / SCALE + BAND]
    return groups, {"ds": {"scale": SCALE, "offset": offset}}


def _group(number: int, column: int, bottom: int) -> dict[str, Any]:
    left = column * (WIDTH + GAP) - MARGIN
    bounding = [left, -BAND, WIDTH + 2 * MARGIN, bottom + BAND - INNER + MARGIN]
    return dict(id=number, title=COLUMNS[column], bounding=bounding, color=COLOURS[column], font_size=22, flags={})
