"""One edit as data: the command line, batches and tests make an `EditJob`."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from ..editing.config import SAMPLERS
from ..editing.edit import START_FROM
from ..editing.strength import STRENGTHS
from ..models.base import DEMO_MODEL
from ..presets import CHANGES, CONTENT, PRESETS, Preset, preset_of
from ..tuning.config import CHECKPOINTING, LOSSES
from ..tuning.tune import LOSS_SCALING_DEVICES
from .options import AUTO, Settings, number_or_auto, option, repeated, setting

_TRIED = ", ".join(map(str, STRENGTHS))


@dataclass(frozen=True, kw_only=True)
class EditJob:
    """Everything that one edit needs. Fields are the options of `python -m tav_core edit`, with their help.

    Where a setting is None, the preset decides (`presets.py`). Check a job with `check.check_job`.
    """

    video: str | Path = option(MISSING, "the clip: a video file, a GIF or a folder of images")
    source_prompt: str = option(MISSING, "the clip's caption")
    more_video: tuple[str | Path, ...] | None = repeated(
        "another clip of the same motion, which is tuned on too, taken as the first one is; may be given several times"
    )
    more_source_prompt: tuple[str, ...] | None = repeated("for each --more-video its caption")
    prompt: str = option(MISSING, "what the edit is to show")
    output: Path = option(
        MISSING, "the edit: NAME.mp4, .webm, .gif, .mkv (FFV1), .mov (ProRes), or a folder of PNG", type=Path
    )
    negative_prompt: str = option("", "what to guide away from")
    model: str | Path = option(DEMO_MODEL, "a local model folder in diffusers' layout (default: the bundled model)")
    preset: str = option(
        "default",
        "what decides where no option does: fast, a quarter of the tuning; default; or published, the settings of the "
        "paper (for Stable Diffusion these are the default)",
        choices=PRESETS,
    )
    num_frames: int = option(16, "frames to take (default: 16)", type=int)
    start: float = option(0.0, "seconds into the clip", type=float)
    fps: float | None = option(None, "frames per second to take (default: every frame)", type=float)
    width: int | None = option(None, "pixels, a multiple of 8 (default: the model's own)", type=int)
    height: int | None = option(None, "pixels, a multiple of 8 (default: the model's own)", type=int)
    tuning_steps: int | None = setting(int, "updates of the weights", "tuning", name="steps")
    learning_rate: float | None = setting(float, "of the tuning", "tuning")
    timestep_range: float | None = setting(
        float, "share of the noise levels that tuning draws from, in (0, 1]", "tuning"
    )
    objective: str | None = setting(
        str,
        "what tuning minimises: the error as published, or debiased, the motion without the looks of the clips, to "
        "sample it with --start-from noise under other prompts",
        "tuning",
        name="loss",
        choices=LOSSES,
    )
    context_length: int | None = setting(int, "frames of the clip that an update sees at once (default: all)", "tuning")
    lora_rank: int = option(0, "train low-rank updates of this rank, with peft (default: 0, the weights)", type=int)
    num_inference_steps: int | None = setting(int, "steps of inversion and of sampling", "inversion", "sampling")
    sampler: str = option(
        "ddim", "ddim (default); for few steps of distilled models lcm, ddim_lcm, ddim_trailing", choices=(*SAMPLERS,)
    )
    refinements: int | None = setting(
        int, "more predictions for each step of inversion, for a closer reconstruction", "inversion"
    )
    guidance_scale: float | None = setting(float, "how strongly the prompt acts", "sampling")
    high_noise_guidance_scale: float | None = setting(
        float, "the guidance scale at high noise, where the layout is decided", "sampling"
    )
    source_guidance_scale: float | None = setting(
        float, "with source_branch: the guidance scale for the clip itself; 1 preserves more of it", "sampling"
    )
    cross_replace_steps: float | None = setting(
        float,
        "with source_branch: share of the steps in which the words of the prompt act where those of the caption do; 1 "
        "for other colours and styles, 0 for other places",
        "sampling",
    )
    self_replace_steps: float | None = setting(
        float, "with source_branch: share of the steps in which pixels look where they look in the clip", "sampling"
    )
    guide_from_caption: bool | None = setting(
        bool,
        "with source_branch: guide away from the caption in place of the negative prompt, which amplifies only what "
        "the two prompts say differently",
        "sampling",
    )
    propagate: bool | None = setting(
        bool,
        "with source_branch: share what changes among the frames, along the optical flow of the clip",
        "sampling",
    )
    denoise: float | None = setting(
        float, "share of the steps that is sampled, in (0, 1]; less preserves more of the clip", "sampling"
    )
    seed: int | None = setting(int, "of noise and timesteps", "tuning", "sampling")
    start_from: str | None = option(
        None,
        "inversion: the inverted clip, as published; noise: fresh noise; source_branch: a source-preserving edit "
        "(default: inversion, bundled model: source_branch)",
        choices=START_FROM,
    )
    changes: str | None = option(
        None,
        "with source_branch, what the edit changes: look, such as colours and style, where all shapes stay, or "
        "content, such as the place or who is seen; sets the settings that are not given (default: content)",
        choices=CHANGES,
    )
    mask: str | Path | None = option(
        None, "with source_branch: a video or folder of images, white where the edit may change the clip"
    )
    control: tuple[str | Path, ...] | None = repeated(
        "the folder of a ControlNet or T2I-Adapter in diffusers' layout; may be given several times"
    )
    hint: tuple[str | Path, ...] | None = repeated(
        "for each --control what it follows: a video or folder of images, one for each frame; or canny or lineart, "
        "drawn from the clip"
    )
    control_scale: tuple[float, ...] | None = repeated(
        "how strongly a --control acts: one number for all, or one for each (default: 1)", float
    )
    control_start: tuple[float, ...] | None = repeated(
        "share of the noise after whose removal a --control begins to act (default: 0)", float
    )
    control_end: tuple[float, ...] | None = repeated(
        "share of the noise after whose removal it ends (default: 1)", float
    )
    control_tuning: bool = option(True, "tune under the controls too (default: yes)", action=BooleanOptionalAction)
    deflicker: bool | None = option(
        None,
        "deflicker the edit along the optical flow of the clip (default: with source_branch)",
        action=BooleanOptionalAction,
    )
    strength: float | str = option(
        1.0,
        f"of the tuning: 0 is the untuned model, above 1 it is extended; auto samples at {_TRIED} and takes the one "
        "that scores best on prompt and clip (default: 1)",
        type=number_or_auto,
    )
    gradient_checkpointing: str = option(
        AUTO,
        "tune in less memory, more slowly, to the same result; selective saves most of it for the least time (default: "
        "auto, the first of off, selective and on that fits into the free memory)",
        choices=(AUTO, *CHECKPOINTING),
        nargs="?",
        const="on",
    )
    store: Path | None = option(
        None, "a folder for tunings and inversions: started again, the command resumes from there", type=Path
    )
    device: str | torch.device = option("cpu", "cpu, cuda, cuda:1 or mps (default: cuda where there is one)")
    dtype: str = option(
        AUTO,
        "of frozen weights (default: auto, float16 on a GPU, float32 on a CPU and for the bundled model)",
        choices=(AUTO, "float32", "float16", "bfloat16"),
    )
    heat_maps: Path | None = option(
        None, "a video of where each word of the prompt acts in the edit: NAME.mp4, .webm or .gif", type=Path
    )
    report: Path | None = option(None, "a JSON file for settings, versions, times and memory", type=Path)

    @property
    def model_preset(self) -> Preset:
        """The preset by its name, as it is for this model."""
        return preset_of(self.preset, bundled=self.model == DEMO_MODEL)

    @property
    def starts_from(self) -> str:
        """How the edit starts: as given, or as the preset says."""
        return self.start_from or self.model_preset.start_from

    @property
    def deflickers(self) -> bool:
        """Whether the edit is deflickered: as given, or if it is source-preserving."""
        return self.starts_from == "source_branch" if self.deflicker is None else self.deflicker

    @property
    def weight_dtype(self) -> torch.dtype:
        """Of frozen weights: as given, or on a GPU float16, in which the published script computes.

        The bundled model is small and stays in float32.
        """
        if self.dtype != AUTO:
            return getattr(torch, self.dtype)
        half = torch.device(self.device).type in LOSS_SCALING_DEVICES and self.model != DEMO_MODEL
        return torch.float16 if half else torch.float32

    def settings(self) -> Settings:
        """The preset's settings, changed by those that are given."""
        preset, sampling = self.model_preset, self.model_preset.sampling_from(self.starts_from, self.changes or CONTENT)
        configs: dict[str, Any] = {"tuning": preset.tuning, "inversion": preset.inversion, "sampling": sampling}
        for one in fields(self):
            if "stages" in one.metadata and (given := getattr(self, one.name)) is not None:
                changed = {one.metadata["setting"] or one.name: given}
                configs |= {stage: replace(configs[stage], **changed) for stage in one.metadata["stages"]}
        if self.more_video:
            configs["tuning"] = replace(configs["tuning"], clips_in_turn=True)
        return Settings(**configs)
