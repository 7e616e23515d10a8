"""The measurements of the field, each under its exact published definition. `catalogue.py` lists them in a line each.

    pixels.py     PSNR, SSIM, PSNR of the background       from the pictures alone
    motion.py     warp error, agreement of optical flow    from the pictures alone
    learned.py    frame consistency, text alignment, PickScore, under the definitions of three sources
    encoders.py   CLIP, PickScore and DINOv2 from local folders
    sets.py       FID and Inception Score, of many clips

Clips are (f, h, w, 3) arrays in [0, 1].
"""

from .catalogue import MEASURES, Measure, written
from .encoders import EncoderError, load_clip, load_dino
from .learned import clip_measures, dino_measures, pick_measures
from .motion import Motion, end_point_error, estimate_motion, flow_cosine, warp_error
from .pixels import background_psnr, psnr, ssim
from .sets import SetMeasures, load_inception

__all__ = [
    "MEASURES",
    "EncoderError",
    "Measure",
    "Motion",
    "SetMeasures",
    "background_psnr",
    "clip_measures",
    "dino_measures",
    "end_point_error",
    "estimate_motion",
    "flow_cosine",
    "load_clip",
    "load_dino",
    "load_inception",
    "pick_measures",
    "psnr",
    "ssim",
    "warp_error",
    "written",
]
