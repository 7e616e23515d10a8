"""The label, unit, direction and definition of each measure, for tables and pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One measure. better: "higher", "lower", or "-" where the source's own figure is the goal."""

    label: str
    unit: str
    definition: str
    digits: int = 2
    better: str = "higher"


_PAPER = "Tune-A-Video, arXiv:2212.11565"
_LOVEU = "LOVEU-TGVE-2023, frames at 480 x 480"
_V2V = "V2VBench, arXiv:2407.07111"

MEASURES = {
    "psnr": Measure("PSNR", "dB", "Peak signal-to-noise ratio against the source, over the whole clip."),
    "background_psnr": Measure(
        "background PSNR", "dB", "PSNR against the source, over pixels further than 4 from the mask."
    ),
    "ssim": Measure(
        "SSIM", "-1..1", "Structural similarity to the source (Wang et al. 2004), mean of frames.", digits=3
    ),
    "warp_error": Measure(
        "warp error",
        "1e-3",
        "Mean squared difference of each frame to the next one moved back along the source's Farneback flow, where "
        "visible (Lai et al. 2018).",
        better="lower",
    ),
    "source_warp_error": Measure(
        "warp error of the source", "1e-3", "The same of the source itself: the goal.", better="-"
    ),
    "warp_ratio": Measure(
        "warp error over the source's", "times", "1 flickers as much as the source, less is smoother.", better="lower"
    ),
    "end_point_error": Measure(
        "flow end-point error",
        "px",
        "Mean distance of the edit's and the source's Farneback flows; minus it is V2VBench's motion alignment but for "
        "the flow (GMFlow there).",
        digits=3,
        better="lower",
    ),
    "flow_cosine": Measure(
        "flow cosine",
        "-1..1",
        "Mean cosine of the two flows where the source moves more than 0.5 px a frame; 1 minus it is like EditBoard's "
        "FF-beta.",
        digits=3,
    ),
    "clip_frame_paper": Measure(
        "CLIP frame consistency (paper)", "%", f"100 times the mean cosine of all pairs of frames ({_PAPER})."
    ),
    "clip_text_paper": Measure(
        "CLIP text alignment (paper)", "%", f"100 times the mean cosine of frames and prompt ({_PAPER})."
    ),
    "clip_frame_loveu": Measure(
        "CLIPFrame (LOVEU-TGVE)", "-1..1", f"Mean cosine of all ordered pairs of different frames ({_LOVEU}).", digits=4
    ),
    "clip_text_loveu": Measure("CLIPText (LOVEU-TGVE)", "", f"Mean logits_per_image of frames and prompt ({_LOVEU})."),
    "clip_frame_v2vbench": Measure(
        "CLIP consistency (V2VBench)", "0..1", f"Mean cosine of neighbouring frames' pooled outputs ({_V2V}).", digits=4
    ),
    "clip_text_v2vbench": Measure(
        "CLIP alignment (V2VBench)", "", f"Mean scaled cosine of frames and prompt ({_V2V})."
    ),
    "frame_accuracy": Measure(
        "frame accuracy",
        "0..1",
        "Share of frames closer in CLIP to the edit's prompt than to the source's (FateZero; EditBoard).",
        digits=3,
    ),
    "pickscore_loveu": Measure(
        "PickScore (LOVEU-TGVE)", "", f"Mean scaled cosine of frames and prompt in PickScore ({_LOVEU})."
    ),
    "pickscore_v2vbench": Measure(
        "PickScore (V2VBench)", "", f"Mean scaled cosine of frames and prompt in PickScore ({_V2V})."
    ),
    "dino_frame_v2vbench": Measure(
        "DINO consistency (V2VBench)", "0..1", f"Mean cosine of neighbouring frames in DINOv2 ({_V2V}).", digits=4
    ),
    "fid": Measure(
        "FID",
        "",
        "Frechet distance of all edits' frames to all sources' (Inception; needs 2,048 or more).",
        better="lower",
    ),
    "inception_score": Measure("Inception Score", "", "Of all edits' frames, mean of 10 parts."),
}


def format_value(name: str, value: float | None) -> str:
    """A figure with the digits that tables show; - for None."""
    return "-" if value is None else f"{value:.{MEASURES[name].digits}f}"
