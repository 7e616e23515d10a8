"""Tune-A-Video (arXiv:2212.11565): tune an image model on one clip, invert the clip, sample it under a new prompt.

    video_unet = inflate(unet)
    for step in tune(video_unet, latents, caption, scheduler): ...
    *_, noise = invert(video_unet, latents, empty_prompt, scheduler)
    *_, edit = sample(video_unet, noise.latents, prompt, empty_prompt, scheduler)

Latents of a clip are (b, c, f, h, w), scaled by the VAE's factor; text embeddings are (b, n, d). Start reading in
`job/`, then `unet/inflate.py`, `tuning/tune.py` and `editing/`.

Names load when they are first used, so that `import tav_core` takes no longer than torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conditioning import Conditioning
    from .diffusion.denoiser import Denoiser, UNetDenoiser
    from .diffusion.guidance import CFG
    from .diffusion.schedule import NoiseSchedule, plain_noise
    from .editing.config import InversionConfig, SamplingConfig
    from .editing.deflicker import deflicker
    from .editing.edit import edit
    from .editing.heat_maps import HeatMapStep, heat_maps, word_heat_maps
    from .editing.inversion import InversionStep, invert
    from .editing.reconstruction import reconstruct, reconstruction_snr
    from .editing.sampling import SamplingStep, sample
    from .editing.source_branch import SourceBranch, latent_mask, sample_with_source_branch
    from .editing.strength import Trial, best_trial, search_strength
    from .editor import ClipEditor
    from .job.job import EditJob
    from .job.run import EditReport, run_edit
    from .memory.estimate import MemoryEstimate, estimate_memory, frames_that_fit
    from .models.base import BaseModel, load_model
    from .stages.invert import InversionRun, invert_clip
    from .stages.tune import Preview, PreviewConfig, TuningRun, tune_clip
    from .store.store import Store
    from .store.tuned import load_tuned, save_tuned
    from .tuning.config import TuningConfig, TuningStep
    from .tuning.objective import NoisePrediction, Objective
    from .tuning.tune import tune
    from .unet.adapters import QueryTemporal
    from .unet.attention import AttentionControl, AttentionSite
    from .unet.inflate import inflate
    from .unet.video_unet import VideoUNet, trainable_parameters
    from .video import VideoClip, read_video, write_video

_MODULES = {
    "conditioning": ("Conditioning",),
    "diffusion.denoiser": ("Denoiser", "UNetDenoiser"),
    "diffusion.guidance": ("CFG",),
    "diffusion.schedule": ("NoiseSchedule", "plain_noise"),
    "editing.deflicker": ("deflicker",),
    "editing.edit": ("edit",),
    "editing.config": ("InversionConfig", "SamplingConfig"),
    "editing.heat_maps": ("HeatMapStep", "heat_maps", "word_heat_maps"),
    "editing.inversion": ("InversionStep", "invert"),
    "editing.reconstruction": ("reconstruct", "reconstruction_snr"),
    "editing.sampling": ("SamplingStep", "sample"),
    "editing.source_branch": ("SourceBranch", "latent_mask", "sample_with_source_branch"),
    "editing.strength": ("Trial", "best_trial", "search_strength"),
    "editor": ("ClipEditor",),
    "job.job": ("EditJob",),
    "job.run": ("EditReport", "run_edit"),
    "memory.estimate": ("MemoryEstimate", "estimate_memory", "frames_that_fit"),
    "models.base": ("BaseModel", "load_model"),
    "stages.invert": ("InversionRun", "invert_clip"),
    "stages.tune": ("Preview", "PreviewConfig", "TuningRun", "tune_clip"),
    "store.store": ("Store",),
    "store.tuned": ("load_tuned", "save_tuned"),
    "tuning.config": ("TuningConfig", "TuningStep"),
    "tuning.objective": ("NoisePrediction", "Objective"),
    "tuning.tune": ("tune",),
    "unet.adapters": ("QueryTemporal",),
    "unet.attention": ("AttentionControl", "AttentionSite"),
    "unet.inflate": ("inflate",),
    "unet.video_unet": ("VideoUNet", "trainable_parameters"),
    "video": ("VideoClip", "read_video", "write_video"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
