"""The field's measures of edits, each under its published definition; `catalogue.py` describes each in one line.

    pixels.py     PSNR, SSIM, PSNR of the background       not learned
    motion.py     warp error, agreement of optical flow    not learned
    learned.py    frame consistency, text alignment, PickScore, under the definitions of three sources
    encoders.py   CLIP, PickScore and DINOv2 from local folders
    sets.py       FID and Inception Score, of many clips

Clips are (f, h, w, 3) arrays in [0, 1].
"""

from .catalogue import MEASURES, format_value
from .encoders import EncoderError, load_clip, load_dino
from .learned import clip_measures, dino_measures, pick_measures
from .motion import Motion, end_point_error, estimate_motion, flow_cosine, warp_error
from .pixels import background_psnr, psnr, ssim
from .sets import SetMeasures, load_inception

__all__ = [
    "MEASURES",
    "EncoderError",
    "Motion",
    "SetMeasures",
    "background_psnr",
    "clip_measures",
    "dino_measures",
    "end_point_error",
    "estimate_motion",
    "flow_cosine",
    "format_value",
    "load_clip",
    "load_dino",
    "load_inception",
    "pick_measures",
    "psnr",
    "ssim",
    "warp_error",
]
