"""The inputs of TAVOneShotTune. Defaults are those of the core."""

from comfy_api.latest import io

from ..tav_core import TuningConfig
from ..tav_core.tuning import SCHEDULES
from .sockets import TavModelSocket

DEFAULTS = TuningConfig()


def tuning_inputs() -> list[io.Input]:
    """All inputs, those that an artist needs first."""
    return [
        TavModelSocket.Input("model", tooltip="From Inflate Model for Video."),
        io.Latent.Input("latents", tooltip="The clip, from VAE Encode."),
        io.Conditioning.Input("caption", tooltip="What the clip shows, from CLIP Text Encode."),
        io.Int.Input(
            "steps",
            default=DEFAULTS.steps,
            min=1,
            max=10000,
            tooltip="Updates. 300 to 500 for Stable Diffusion; too many copy the clip and resist the edit.",
        ),
        io.Float.Input(
            "learning_rate",
            default=DEFAULTS.learning_rate,
            min=1e-7,
            max=1e-2,
            step=1e-6,
            tooltip="3e-5 for Stable Diffusion, 3e-4 for the bundled model.",
        ),
        io.Int.Input(
            "seed",
            default=DEFAULTS.seed,
            min=0,
            max=2**63 - 1,
            control_after_generate=False,
            tooltip="Of noise and timesteps. The same seed tunes the same model.",
        ),
        *_advanced_inputs(),
        io.Conditioning.Input(
            "preview_prompt", optional=True, tooltip="Prompt of the edit, for the preview while tuning."
        ),
        io.Vae.Input("preview_vae", optional=True, tooltip="VAE, for the preview while tuning."),
    ]


def _advanced_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "preview_every",
            default=0,
            min=0,
            max=10000,
            tooltip="Show a quick sample of the edit every so many steps; 0 for never. Needs prompt and VAE below.",
            optional=True,
            advanced=True,
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=DEFAULTS.gradient_checkpointing,
            tooltip="Takes less memory and more time. The result is the same.",
            optional=True,
            advanced=True,
        ),
        io.Combo.Input(
            "lr_schedule",
            options=list(SCHEDULES),
            default=DEFAULTS.lr_schedule,
            tooltip="Keep the learning rate, or let it fall to zero.",
            optional=True,
            advanced=True,
        ),
        io.Int.Input(
            "warmup_steps",
            default=DEFAULTS.warmup_steps,
            min=0,
            max=1000,
            tooltip="Steps over which the learning rate rises from zero.",
            optional=True,
            advanced=True,
        ),
        io.Int.Input(
            "gradient_accumulation_steps",
            default=DEFAULTS.gradient_accumulation_steps,
            min=1,
            max=64,
            tooltip="Draws of noise averaged in one step: steadier, and as many times slower.",
            optional=True,
            advanced=True,
        ),
        io.Float.Input(
            "weight_decay",
            default=DEFAULTS.weight_decay,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip="Of AdamW.",
            optional=True,
            advanced=True,
        ),
        io.Float.Input(
            "max_grad_norm",
            default=DEFAULTS.max_grad_norm,
            min=0.01,
            max=100.0,
            step=0.01,
            tooltip="The gradient is clipped to this norm.",
            optional=True,
            advanced=True,
        ),
        io.Float.Input(
            "min_snr_gamma",
            default=0.0,
            min=0.0,
            max=20.0,
            step=0.5,
            tooltip="Weighs the loss by min-SNR; 5 is usual, 0 is off, as published.",
            optional=True,
            advanced=True,
        ),
    ]
