"""The label, unit, direction and definition of each measure, for tables and pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One measure. better: "higher", "lower", or "as the source" where the source's own figure is the goal."""

    label: str
    unit: str
    better: str
    definition: str
    digits: int = 3


_PAPER = "Tune-A-Video, arXiv:2212.11565"
_LOVEU = "LOVEU-TGVE-2023, frames at 480 x 480"
_V2V = "V2VBench, arXiv:2407.07111"

MEASURES = {
    "psnr": Measure("PSNR", "dB", "higher", "Peak signal-to-noise ratio against the source, over the whole clip.", 2),
    "background_psnr": Measure(
        "background PSNR", "dB", "higher", "PSNR against the source, over pixels further than 4 from the mask.", 2
    ),
    "ssim": Measure(
        "SSIM", "-1..1", "higher", "Structural similarity to the source (Wang et al. 2004), mean of frames."
    ),
    "warp_error": Measure(
        "warp error",
        "1e-3",
        "lower",
        "Mean squared difference of each frame to the next one moved back along the source's Farneback flow, where "
        "visible (Lai et al. 2018).",
        2,
    ),
    "source_warp_error": Measure(
        "warp error of the source", "1e-3", "-", "The same of the source itself: the goal.", 2
    ),
    "warp_ratio": Measure(
        "warp error over the source's", "times", "lower", "1 flickers as much as the source, less is smoother.", 2
    ),
    "end_point_error": Measure(
        "flow end-point error",
        "px",
        "lower",
        "Mean distance of the edit's and the source's Farneback flows; minus it is V2VBench's motion alignment but for "
        "the flow (GMFlow there).",
    ),
    "flow_cosine": Measure(
        "flow cosine",
        "-1..1",
        "higher",
        "Mean cosine of the two flows where the source moves more than 0.5 px a frame; 1 minus it is like EditBoard's "
        "FF-beta.",
    ),
    "clip_frame_paper": Measure(
        "CLIP frame consistency (paper)",
        "%",
        "higher",
        f"100 times the mean cosine of all pairs of frames ({_PAPER}).",
        2,
    ),
    "clip_text_paper": Measure(
        "CLIP text alignment (paper)", "%", "higher", f"100 times the mean cosine of frames and prompt ({_PAPER}).", 2
    ),
    "clip_frame_loveu": Measure(
        "CLIPFrame (LOVEU-TGVE)",
        "-1..1",
        "higher",
        f"Mean cosine of all ordered pairs of different frames ({_LOVEU}).",
        4,
    ),
    "clip_text_loveu": Measure(
        "CLIPText (LOVEU-TGVE)", "", "higher", f"Mean logits_per_image of frames and prompt ({_LOVEU}).", 2
    ),
    "clip_frame_v2vbench": Measure(
        "CLIP consistency (V2VBench)",
        "0..1",
        "higher",
        f"Mean cosine of neighbouring frames' pooled outputs ({_V2V}).",
        4,
    ),
    "clip_text_v2vbench": Measure(
        "CLIP alignment (V2VBench)", "", "higher", f"Mean scaled cosine of frames and prompt ({_V2V}).", 2
    ),
    "frame_accuracy": Measure(
        "frame accuracy",
        "0..1",
        "higher",
        "Share of frames closer in CLIP to the edit's prompt than to the source's (FateZero; EditBoard).",
    ),
    "pickscore_loveu": Measure(
        "PickScore (LOVEU-TGVE)", "", "higher", f"Mean scaled cosine of frames and prompt in PickScore ({_LOVEU}).", 2
    ),
    "pickscore_v2vbench": Measure(
        "PickScore (V2VBench)", "", "higher", f"Mean scaled cosine of frames and prompt in PickScore ({_V2V}).", 2
    ),
    "dino_frame_v2vbench": Measure(
        "DINO consistency (V2VBench)", "0..1", "higher", f"Mean cosine of neighbouring frames in DINOv2 ({_V2V}).", 4
    ),
    "fid": Measure(
        "FID", "", "lower", "Frechet distance of all edits' frames to all sources' (Inception; needs 2,048 or more).", 2
    ),
    "inception_score": Measure("Inception Score", "", "higher", "Of all edits' frames, mean of 10 parts.", 2),
}


def format_value(name: str, value: float | None) -> str:
    """A figure with the digits that tables show; - for None."""
    return "-" if value is None else f"{value:.{MEASURES[name].digits}f}"
