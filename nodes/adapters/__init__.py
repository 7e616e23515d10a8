"""Everything that uses ComfyUI's internals. The nodes use its public node API and the names below only.

convert.py    MODEL -> a fresh diffusers UNet with every patch in its weights, and its noise levels
handle.py     TAV_MODEL: an inflated UNet in the host's memory management, and its tuned weights
memory.py     the memory that a step takes, the settings that fit, and what to lower where none does
data.py       LATENT, CONDITIONING, AUDIO and VIDEO to and from what the core takes
progress.py   steps with progress, time left, and Stop
folders.py    names and places of files
encoders.py   CLIP, PickScore and DINOv2 for the measures
demo.py       the bundled model as MODEL, CLIP and VAE
"""

from .convert import UnsupportedModel, noise_schedule, to_diffusers
from .data import (
    START_FROM,
    audio_from_core,
    audio_to_core,
    clip_latents,
    curves_plot,
    edit_start,
    embeddings,
    host_latents,
    inverted_latents,
    loss_plot,
    mask_frames,
    read_any_video,
    read_file,
)
from .demo import load_demo
from .encoders import NO_ENCODER, encoder_folders, load_encoders
from .folders import (
    bundled_clip,
    input_file,
    input_videos,
    next_output,
    next_tuned_file,
    register_folders,
    stamp,
    store,
    tuned_file,
    tuned_files,
    video_metadata,
)
from .handle import TavModel, compute_dtype, hold, loaded
from .memory import AUTO, CHECKPOINTING_CHOICES, CHECKPOINTING_KNOWN, checkpointing_that_fits
from .progress import Progress, decode_frame, interruptible, raise_if_interrupted

__all__ = [
    "AUTO",
    "CHECKPOINTING_CHOICES",
    "CHECKPOINTING_KNOWN",
    "NO_ENCODER",
    "START_FROM",
    "Progress",
    "TavModel",
    "UnsupportedModel",
    "audio_from_core",
    "audio_to_core",
    "bundled_clip",
    "checkpointing_that_fits",
    "clip_latents",
    "compute_dtype",
    "curves_plot",
    "decode_frame",
    "edit_start",
    "embeddings",
    "encoder_folders",
    "hold",
    "host_latents",
    "input_file",
    "input_videos",
    "interruptible",
    "inverted_latents",
    "load_demo",
    "load_encoders",
    "loaded",
    "loss_plot",
    "mask_frames",
    "next_output",
    "next_tuned_file",
    "noise_schedule",
    "raise_if_interrupted",
    "read_any_video",
    "read_file",
    "register_folders",
    "stamp",
    "store",
    "to_diffusers",
    "tuned_file",
    "tuned_files",
    "video_metadata",
]
