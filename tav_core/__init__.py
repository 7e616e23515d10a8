"""Tune-A-Video (arXiv:2212.11565): tune an image model on one clip, invert the clip, sample it under a new prompt.

    video_unet = inflate(unet)
    for step in tune(video_unet, latents, caption, scheduler): ...
    *_, noise = invert(video_unet, latents, empty_prompt, scheduler)
    *_, edit = sample(video_unet, noise.latents, prompt, empty_prompt, scheduler)

Latents of a clip are (b, c, f, h, w), scaled by the VAE's factor; text embeddings are (b, n, d). Start reading in
`inflation.py`, then `tuning.py`.
"""

from .diffusion.schedule import NoiseSchedule, plain_noise
from .editing.deflicker import steady
from .editing.inversion import InversionConfig, InversionStep, invert
from .editing.sampling import SamplingConfig, SamplingStep, sample
from .editing.source_branch import SourceBranch, latent_mask, sample_beside
from .editing.strength import Trial, best
from .editor import ClipEditor
from .memory.estimate import Plan, frames_that_fit, plan
from .models.base import BaseModel, load_model
from .rates import Rates, measure_rates
from .store import Store, load_tuned, save_tuned
from .tuning.config import TuningConfig, TuningStep
from .tuning.tune import tune
from .unet.inflate import VideoUNet, inflate, trainable_parameters
from .video import VideoClip, read_video, write_video

__all__ = [
    "BaseModel",
    "ClipEditor",
    "InversionConfig",
    "InversionStep",
    "NoiseSchedule",
    "Plan",
    "Rates",
    "SamplingConfig",
    "SamplingStep",
    "SourceBranch",
    "Store",
    "Trial",
    "TuningConfig",
    "TuningStep",
    "VideoClip",
    "VideoUNet",
    "best",
    "frames_that_fit",
    "inflate",
    "invert",
    "latent_mask",
    "load_model",
    "load_tuned",
    "measure_rates",
    "plain_noise",
    "plan",
    "read_video",
    "sample",
    "sample_beside",
    "save_tuned",
    "steady",
    "trainable_parameters",
    "tune",
    "write_video",
]
