"""The inputs of TAVSample. Defaults are those of the core."""

from comfy_api.v0_0_2 import io

from ..tav_core import SamplingConfig
from ..tav_core.editing.config import SAMPLERS
from .adapters.ways import INVERSION, PUBLISHED_WAY, START_FROM, WAYS, shown_ways
from .sockets import DDIM, GUIDANCE, POSITIVE_SHARE, SEED, SHARE, STEPS, TavModelSocket, advanced, widget

DEFAULTS = SamplingConfig()
WAY = (
    "published: from the inverted clip, as in the paper. content: another place or subject; the rest of the clip is "
    "preserved. look: another colour or style; all shapes are preserved. Sets the widgets below, which may be changed "
    "afterwards; custom sets nothing. content and look need caption and clip_latents, and no DDIM Invert."
)
GUIDES = "How strongly the prompt acts. 7 to 13 for Stable Diffusion, 1.5 to 2 for the bundled model; 1 is none."
STEP_COUNT = "With way published, the same number as in DDIM Invert."


def sampling_inputs() -> list[io.Input]:
    """All inputs, the ones that an artist needs first."""
    latents = "The noise, from DDIM Invert. Without clip_latents, the clip for content and look, from VAE Encode."
    clip = "The clip, from VAE Encode, for content and look. DDIM Invert then runs for way published alone."
    caption = "What the clip shows, the text that it was tuned under. Needed for content and look."
    mask = "Where content and look may change the clip, white; one for all frames, or one for each."
    return [
        TavModelSocket.Input("model", tooltip="The model tuned on the clip."),
        io.Latent.Input("latents", lazy=True, tooltip=latents),
        io.Conditioning.Input("positive", tooltip="The prompt of the edit."),
        io.Conditioning.Input("negative", tooltip="What to guide away from; the empty prompt, as published."),
        widget(
            io.Combo, "way", PUBLISHED_WAY, WAY, optional=True, options=list(WAYS), extra_dict=dict(ways=shown_ways())
        ),
        widget(io.Int, "steps", DEFAULTS.num_inference_steps, STEP_COUNT, optional=True, **STEPS),
        widget(io.Float, "guidance", DEFAULTS.guidance_scale, GUIDES, optional=True, **GUIDANCE),
        *_advanced_inputs(),
        io.Conditioning.Input("caption", optional=True, tooltip=caption),
        io.Mask.Input("mask", optional=True, tooltip=mask),
        io.Latent.Input("clip_latents", optional=True, lazy=True, tooltip=clip),
    ]


def _advanced_inputs() -> list[io.Input]:
    seed = "Of fresh noise. Hidden while nothing is drawn: way published with eta 0 and a sampler other than lcm."
    eta = "Fresh noise in each step: 0 for none (DDIM), 1 for as much as DDPM adds."
    rescale = "Takes back the contrast that strong guidance adds. 0.7 if colours burn out."
    denoise = "Share of the steps to run: lower changes the clip less. 1 as published, 0.8 for content and look."
    start = (
        "Set by way. inversion is the published start. noise takes fresh noise: the motion then comes from the tuning. "
        "source branch preserves most of the clip."
    )
    early = (
        "Guidance at high noise, where the layout is decided; 0 for the same at all levels. Raise it if the old "
        "outline stays."
    )
    source = (
        "For content and look: guidance for the clip itself; 0 for that of the edit. 1 preserves more of the clip and "
        "is faster."
    )
    cross = (
        "For content and look: the share of the steps in which the words of the prompt act where those of the caption "
        "do: 1 for another colour or style, 0 for another place. Word prompt and caption alike."
    )
    shape = (
        "For content and look: share of the steps in which pixels look where they look in the clip, which preserves "
        "shapes."
    )
    away = (
        "For content and look: guide away from the caption in place of the negative prompt. Changes only what the two "
        "prompts say differently: for another place or subject."
    )
    along = (
        "For content and look: share what changes among the frames, along the optical flow of the clip. Off for "
        "another colour or style."
    )
    keep = (
        "Stores what content and look predict for the clip itself in models/tune_a_video_store: the next prompt then "
        "takes half to two thirds of the time. Look stores nothing while cross_replace_steps is 1."
    )
    sampler = (
        "ddim as published. For distilled models and LoRAs, in 4 to 8 steps: lcm draws fresh noise in each step; "
        "ddim_lcm and ddim_trailing take DDIM steps at their timesteps, for content and look too. The same in DDIM "
        "Invert."
    )
    return [
        advanced(io.Int, "seed", DEFAULTS.seed, seed, **SEED),
        advanced(io.Float, "eta", DEFAULTS.eta, eta, **SHARE),
        advanced(io.Float, "guidance_rescale", DEFAULTS.guidance_rescale, rescale, **SHARE),
        advanced(io.Float, "denoise", DEFAULTS.denoise, denoise, **POSITIVE_SHARE),
        advanced(io.Combo, "start_from", INVERSION, start, options=list(START_FROM)),
        advanced(io.Float, "early_guidance", 0.0, early, display_name="high_noise_guidance", **GUIDANCE),
        advanced(io.Float, "source_guidance", 0.0, source, **GUIDANCE),
        advanced(io.Float, "cross_replace_steps", DEFAULTS.cross_replace_steps, cross, **SHARE),
        advanced(io.Float, "self_replace_steps", DEFAULTS.self_replace_steps, shape, **SHARE),
        advanced(io.Boolean, "guide_from_caption", DEFAULTS.guide_from_caption, away),
        advanced(io.Boolean, "propagate", DEFAULTS.propagate, along),
        advanced(io.Boolean, "keep", True, keep),
        advanced(io.Combo, "sampler", DDIM, sampler, options=list(SAMPLERS)),
    ]
