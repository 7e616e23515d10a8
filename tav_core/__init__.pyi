"""The public names of tav_core, for type checkers and for `__init__.py`, which loads each when it is first used."""

from . import evaluation as evaluation
from . import metrics as metrics
from .conditioning import Conditioning as Conditioning
from .conditioning import Control as Control
from .diffusion.ddim import clean_and_noise as clean_and_noise
from .diffusion.denoiser import Denoiser as Denoiser
from .diffusion.denoiser import UNetDenoiser as UNetDenoiser
from .diffusion.denoiser import unet_denoiser as unet_denoiser
from .diffusion.guidance import CFG as CFG
from .diffusion.schedule import NoiseSchedule as NoiseSchedule
from .diffusion.schedule import plain_noise as plain_noise
from .editing.attention_maps import AttentionMap as AttentionMap
from .editing.attention_maps import AttentionRecorder as AttentionRecorder
from .editing.attention_maps import record_attention as record_attention
from .editing.config import InversionConfig as InversionConfig
from .editing.config import SamplingConfig as SamplingConfig
from .editing.deflicker import deflicker as deflicker
from .editing.edit import edit as edit
from .editing.edit import inverted_start as inverted_start
from .editing.heat_maps import HeatMapStep as HeatMapStep
from .editing.heat_maps import heat_maps as heat_maps
from .editing.heat_maps import word_heat_maps as word_heat_maps
from .editing.inversion import InversionStep as InversionStep
from .editing.inversion import ddim_invert as ddim_invert
from .editing.inversion import invert as invert
from .editing.reconstruction import reconstruct as reconstruct
from .editing.reconstruction import reconstruction_snr as reconstruction_snr
from .editing.samplers import Sampler as Sampler
from .editing.samplers import SamplingStep as SamplingStep
from .editing.samplers import ddim_sample as ddim_sample
from .editing.samplers import lcm_sample as lcm_sample
from .editing.sampling import sample as sample
from .editing.source_branch import (
    SourceBranch as SourceBranch,
)
from .editing.source_branch import (
    latent_mask as latent_mask,
)
from .editing.source_branch import (
    sample_with_source_branch as sample_with_source_branch,
)
from .editing.strength import Trial as Trial
from .editing.strength import best_trial as best_trial
from .editing.strength import search_strength as search_strength
from .editor import ClipEditor as ClipEditor
from .job.job import EditJob as EditJob
from .job.run import EditReport as EditReport
from .job.run import run_edit as run_edit
from .memory.estimate import (
    MemoryEstimate as MemoryEstimate,
)
from .memory.estimate import (
    estimate_memory as estimate_memory,
)
from .memory.estimate import (
    frames_that_fit as frames_that_fit,
)
from .models.base import BUNDLED_CLIPS as BUNDLED_CLIPS
from .models.base import BaseModel as BaseModel
from .models.base import load_model as load_model
from .models.codec import decode_latents as decode_latents
from .models.codec import encode_frames as encode_frames
from .models.codec import encode_prompts as encode_prompts
from .models.codec import prompt_words as prompt_words
from .models.control import HintControl as HintControl
from .models.control import load_control as load_control
from .stages.invert import InversionRun as InversionRun
from .stages.invert import invert_clip as invert_clip
from .stages.tune import (
    Preview as Preview,
)
from .stages.tune import (
    PreviewConfig as PreviewConfig,
)
from .stages.tune import (
    TuningRun as TuningRun,
)
from .stages.tune import (
    tune_clip as tune_clip,
)
from .store.export import Exported as Exported
from .store.export import export_tuned as export_tuned
from .store.store import Store as Store
from .store.tuned import apply_tuned as apply_tuned
from .store.tuned import load_tuned as load_tuned
from .store.tuned import save_tuned as save_tuned
from .tuning.config import TuningConfig as TuningConfig
from .tuning.config import TuningStep as TuningStep
from .tuning.objective import AppearanceDebiased as AppearanceDebiased
from .tuning.objective import NoisePrediction as NoisePrediction
from .tuning.objective import Objective as Objective
from .tuning.state import TuningState as TuningState
from .tuning.tune import tune as tune
from .unet.adapters import Adapter as Adapter
from .unet.attention import AttentionControl as AttentionControl
from .unet.attention import AttentionSite as AttentionSite
from .unet.attention import attention_probabilities as attention_probabilities
from .unet.inflate import inflate as inflate
from .unet.video_unet import VideoUNet as VideoUNet
from .unet.video_unet import trainable_parameters as trainable_parameters
from .video import VideoClip as VideoClip
from .video import read_video as read_video
from .video import write_video as write_video
from .video.hints import draw_hints as draw_hints

__version__: str
