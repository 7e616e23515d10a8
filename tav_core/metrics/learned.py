"""Frame consistency and agreement with the prompt, under their exact published definitions.

There are four definitions of "CLIP frame consistency", so each measure has the name of its source:

    loveu       LOVEU-TGVE-2023 (arXiv:2310.16003; github.com/showlab/loveu-tgve-2023, scripts/run_eval.py)
    v2vbench    V2VBench (arXiv:2407.07111; github.com/wenhao728/awesome-diffusion-v2v, v2vbench/)
    paper       Tune-A-Video (arXiv:2212.11565), section 4.2

Frame consistency rewards a still picture: read it with a measure of motion. Higher is better throughout. The formulas
are the short functions at the end; `encoders.py` turns frames and prompts into their vectors of unit length.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from .encoders import ClipEncoder, DinoEncoder, as_pictures

_LOVEU_SIZE = (480, 480)  # pixels, to which LOVEU-TGVE resizes every frame before CLIP's own preparation


def clip_measures(
    encoder: ClipEncoder, frames: np.ndarray, prompt: str, source_prompt: str | None = None
) -> dict[str, float]:
    """All measures that use CLIP.

    Arguments:
        encoder: openai/clip-vit-large-patch14 for figures comparable with published ones.
        frames: the edit, (f, h, w, 3) in [0, 1], two or more.
        prompt, source_prompt: the prompt of the edit, and the source's caption.

    Returns:
        clip_frame_loveu in [-1, 1], clip_frame_v2vbench in [0, 1], clip_frame_paper in percent; clip_text_loveu,
        clip_text_v2vbench and clip_text_paper in [-100, 100]; with a source_prompt, frame_accuracy in [0, 1].
    """
    pictures = as_pictures(frames)
    native = encoder.encode_frames(pictures)
    resized = encoder.encode_frames(_at_loveu_size(pictures))
    text = encoder.encode_text(prompt)
    measures = {
        "clip_frame_loveu": all_pairs_consistency(resized.embeddings),
        "clip_text_loveu": text_alignment(resized.embeddings, text, encoder.scale),
        "clip_frame_v2vbench": adjacent_consistency(native.pooled),
        "clip_text_v2vbench": text_alignment(native.embeddings, text, encoder.scale),
        "clip_frame_paper": 100 * all_pairs_consistency(native.embeddings),
        "clip_text_paper": text_alignment(native.embeddings, text, 100.0),
    }
    if source_prompt is not None:
        measures["frame_accuracy"] = frame_accuracy(native.embeddings, text, encoder.encode_text(source_prompt))
    return measures


def pick_measures(encoder: ClipEncoder, frames: np.ndarray, prompt: str) -> dict[str, float]:
    """PickScore (arXiv:2305.01569), a model of human preference, in the mean over frames.

    Returns:
        pickscore_loveu, of frames at 480 x 480, and pickscore_v2vbench, of frames as they are: the cosine times the
        model's own scale, near 100; about 20 for good pictures.
    """
    pictures = as_pictures(frames)
    text = encoder.encode_text(prompt)
    return {
        f"pickscore_{name}": text_alignment(encoder.encode_frames(chosen).embeddings, text, encoder.scale)
        for name, chosen in {"loveu": _at_loveu_size(pictures), "v2vbench": pictures}.items()
    }


def dino_measures(encoder: DinoEncoder, frames: np.ndarray) -> dict[str, float]:
    """dino_frame_v2vbench in [0, 1]: V2VBench's DINO consistency, of facebook/dinov2-base."""
    return {"dino_frame_v2vbench": adjacent_consistency(encoder.encode_frames(as_pictures(frames)))}


def all_pairs_consistency(vectors: Tensor) -> float:
    """LOVEU-TGVE and the paper: mean cosine over all pairs of different frames, in [-1, 1]. vectors: (f, d), unit."""
    _raise_unless_two(vectors)
    count = len(vectors)
    cosines = vectors @ vectors.T  # (f, f)
    return float((cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1)))


def adjacent_consistency(vectors: Tensor) -> float:
    """V2VBench: mean over neighbouring frames of the cosine, each no less than 0, in [0, 1]. vectors: (f, d), unit."""
    _raise_unless_two(vectors)
    return float((vectors[1:] * vectors[:-1]).sum(-1).clamp(min=0).mean())


def text_alignment(embeddings: Tensor, text: Tensor, scale: float) -> float:
    """Mean over frames of the cosine with the prompt, times `scale`. embeddings: (f, d), text: (d,), both unit.

    With CLIP's own scale, which is 100 to five digits, this is LOVEU-TGVE's CLIPText (the mean of logits_per_image) and
    V2VBench's CLIP alignment; with 100 itself, the paper's CLIP score.
    """
    return float(scale * (embeddings @ text).mean())


def frame_accuracy(embeddings: Tensor, text: Tensor, source_text: Tensor) -> float:
    """Share of frames that are closer to the edit's prompt than to the source's, in [0, 1].

    FateZero's Frame-Acc (arXiv:2303.09535) and EditBoard's success rate (arXiv:2409.09668).
    """
    return int((embeddings @ text > embeddings @ source_text).sum()) / len(embeddings)


def _at_loveu_size(pictures: list[Image.Image]) -> list[Image.Image]:
    return [picture.resize(_LOVEU_SIZE) for picture in pictures]


def _raise_unless_two(vectors: Tensor) -> None:
    if len(vectors) < 2:
        raise ValueError("Frame consistency compares frames with each other: give a clip of two frames or more.")
