"""The nodes. Each file holds one: its schema, and a few lines: convert, call one stage of the core, convert back.

ComfyUI imports this package at its start. What imports diffusers, OpenCV, PyAV, matplotlib or transformers is imported
when a node runs: names of `tav_core` load lazily, others are imported within the functions that use them.
"""

from comfy_api.v0_0_2 import ComfyExtension, io

from .adapters.folders import offer_bundled_clips, register_folders
from .another_clip import AnotherClip
from .apply_motion import ApplyMotion
from .compare_videos import CompareVideos
from .context_windows import ContextWindows
from .ddim_invert import DDIMInvert
from .deflicker import Deflicker
from .draw_hints import DrawHints
from .evaluate import Evaluate
from .export_tuned import ExportTuned
from .find_strength import FindStrength
from .inflate_unet import InflateUNet
from .inversion_sampler import InversionSampler
from .load_demo_control import LoadDemoControl
from .load_demo_model import LoadDemoModel
from .load_tuned import LoadTuned
from .load_video import LoadVideo
from .one_shot_tune import OneShotTune
from .prompt_grid import PromptGrid
from .prompt_list import PromptList
from .sample import Sample
from .save_tuned import SaveTuned
from .save_video import SaveVideo
from .word_heat_maps import WordHeatMaps

NODES: list[type[io.ComfyNode]] = [
    LoadVideo,
    InflateUNet,
    OneShotTune,
    DDIMInvert,
    Sample,
    SaveVideo,
    Deflicker,
    FindStrength,
    SaveTuned,
    LoadTuned,
    CompareVideos,
    LoadDemoModel,
    Evaluate,
    WordHeatMaps,
    ApplyMotion,
    InversionSampler,
    ContextWindows,
    ExportTuned,
    PromptList,
    PromptGrid,
    DrawHints,
    LoadDemoControl,
    AnotherClip,
]


class TuneAVideoExtension(ComfyExtension):
    """Gives ComfyUI the nodes."""

    async def on_load(self) -> None:
        register_folders()
        offer_bundled_clips()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
