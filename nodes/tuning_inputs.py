"""The inputs of TAVOneShotTune. Defaults are those of the core."""

from comfy_api.v0_0_2 import io

from ..tav_core import TuningConfig
from ..tav_core.tuning.config import LOSSES, SCHEDULES
from .adapters.memory import AUTO, CHECKPOINTING_CHOICES
from .sockets import POSITIVE_SHARE, SEED, TavClipsSocket, TavModelSocket, advanced, widget

DEFAULTS = TuningConfig()


def tuning_inputs() -> list[io.Input]:
    """All inputs, the ones that an artist needs first."""
    steps = (
        "Updates. 300 to 500 for Stable Diffusion, 100 for the bundled model; too many copy the clip and resist the "
        "edit."
    )
    rate = (
        "Size of each update. The default is the published one for Stable Diffusion; the small bundled model takes "
        "5e-4."
    )
    seed = "Of noise and timesteps. The same seed tunes the same model."
    more = "More clips of the same motion, from Another Clip. Updates see one clip after the other."
    fps = "Frames per second of the clip, from Load Clip; with more_clips alone, to be compared with theirs."
    return [
        TavModelSocket.Input("model", tooltip="From Inflate Model for Video."),
        io.Latent.Input("latents", tooltip="The clip, from VAE Encode."),
        io.Conditioning.Input("caption", tooltip="What the clip shows, from CLIP Text Encode."),
        widget(io.Int, "steps", DEFAULTS.steps, steps, min=1, max=10000),
        widget(io.Float, "learning_rate", DEFAULTS.learning_rate, rate, min=1e-7, max=1e-2, step=1e-6),
        widget(io.Int, "seed", DEFAULTS.seed, seed, **SEED),
        *_advanced_inputs(),
        io.Conditioning.Input(
            "preview_prompt",
            optional=True,
            tooltip="Prompt of the edit, for the preview while tuning. Give it a CLIP Text Encode of its own: each "
            "change of its text runs this node and DDIM Invert again.",
        ),
        io.Vae.Input("preview_vae", optional=True, tooltip="VAE, for the preview while tuning."),
        TavClipsSocket.Input("more_clips", optional=True, tooltip=more),
        io.Float.Input("fps", optional=True, force_input=True, min=0.0, max=1000.0, tooltip=fps),
    ]


def _advanced_inputs() -> list[io.Input]:
    every = "Show a quick sample of the edit every so many steps; 0 for never. Needs prompt and VAE below."
    keep = "Store the tuning in models/tune_a_video_store: the same one is then loaded at once, a stopped one resumes."
    checkpointing = (
        "selective takes far less memory and a tenth more time, on takes the least and a third more; auto is the first "
        "of off, selective and on that fits. The result is the same but for rounding."
    )
    schedule = "Keep the learning rate, or let it fall to zero."
    warmup = "Steps over which the learning rate rises from zero."
    accumulation = "Draws of noise averaged in one step: less noisy, and as many times slower."
    part = (
        "Share of the noise levels to tune on, from the clean end: 1 as published. Below 1 set denoise of Sample Edit "
        "to the same share."
    )
    clipping = "The norm to which the gradient is clipped."
    context = (
        "Frames that an update sees at once; 0 for the whole clip. 16 tunes a clip of any length in the memory of 18 "
        "frames: sample it with Context Windows."
    )
    snr = "Weights the loss by min-SNR; 5 is usual, 0 is off, as published."
    objective = (
        "published: the error of the noise. debiased: the motion without the looks of the clips, to sample it from "
        "fresh noise under other prompts; a step takes longer and more memory."
    )
    d = DEFAULTS
    return [
        advanced(io.Int, "preview_every", 0, every, min=0, max=10000),
        advanced(io.Boolean, "keep", True, keep),
        advanced(io.Combo, "gradient_checkpointing", AUTO, checkpointing, options=list(CHECKPOINTING_CHOICES)),
        advanced(io.Combo, "lr_schedule", d.lr_schedule, schedule, options=list(SCHEDULES)),
        advanced(io.Int, "warmup_steps", d.warmup_steps, warmup, min=0, max=1000),
        advanced(io.Int, "gradient_accumulation_steps", d.gradient_accumulation_steps, accumulation, min=1, max=64),
        advanced(io.Float, "timestep_range", d.timestep_range, part, **POSITIVE_SHARE),
        advanced(io.Float, "weight_decay", d.weight_decay, "Of AdamW.", min=0.0, max=1.0, step=0.001),
        advanced(io.Float, "max_grad_norm", d.max_grad_norm, clipping, min=0.01, max=100.0, step=0.01),
        advanced(io.Float, "min_snr_gamma", 0.0, snr, min=0.0, max=20.0, step=0.5),
        advanced(io.Int, "context_length", 0, context, min=0, max=1024),
        advanced(io.Combo, "objective", d.loss, objective, options=list(LOSSES)),
    ]
