"""TAVSample: the edit, sampled under another prompt."""

from typing import Any

from comfy_api.latest import io

from .. import tav_core
from ..tav_core import SamplingConfig
from .adapters.data import START_FROM, edit_start, guided_embeddings, host_latents
from .adapters.handle import TavModel, loaded
from .adapters.progress import Progress
from .sockets import CATEGORY, GUIDANCE, POSITIVE_SHARE, SEED, SHARE, STEPS, TavModelSocket, advanced, widget

DEFAULTS = SamplingConfig()
INVERSION, *_ = START_FROM


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        guidance = (
            "How strongly the prompt acts. 7 to 13 for Stable Diffusion, 1.5 for the bundled model, 2 for its source "
            "branch; 1 is none, and takes half the time."
        )
        return io.Schema(
            node_id="TAVSample",
            display_name="Sample Edit (Tune-A-Video)",
            category=CATEGORY,
            description="Samples the clip under the edit's prompt, from the noise of DDIM Invert, or along a source "
            "branch that preserves what the prompt does not change.",
            search_aliases=["sample video", "video sampler", "edit video", "tune a video sample", "ksampler video"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The model tuned on the clip."),
                io.Latent.Input(
                    "latents", tooltip="The noise, from DDIM Invert; for a source branch the clip, from VAE Encode."
                ),
                io.Conditioning.Input("positive", tooltip="The prompt of the edit."),
                io.Conditioning.Input("negative", tooltip="What to guide away from; the empty prompt, as published."),
                widget(io.Int, "steps", DEFAULTS.num_inference_steps, "The same number as in DDIM Invert.", **STEPS),
                widget(io.Float, "guidance", DEFAULTS.guidance_scale, guidance, **GUIDANCE),
                *_advanced_inputs(),
                io.Conditioning.Input(
                    "caption", optional=True, tooltip="What the clip shows, as tuned. Needed for a source branch."
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where a source-preserving edit may change the clip; one for all frames, or one for each.",
                ),
            ],
            outputs=[io.Latent.Output("edit", display_name="LATENT", tooltip="The edited clip, for VAE Decode.")],
        )

    @classmethod
    def execute(
        cls,
        model: TavModel,
        latents: dict,
        positive: Any,
        negative: Any,
        start_from: str = INVERSION,
        caption: Any = None,
        mask: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        config = _sampling_config(**settings)
        prompts = guided_embeddings(positive, negative)
        start, free = edit_start(start_from, latents, caption, mask, model, config)
        count = len(model.schedule.timesteps(config.num_inference_steps, config.denoise))
        clip, *captions = (start.latents, start.caption) if isinstance(start, tav_core.SourceBranch) else (start,)
        with loaded(model, clip, config, *prompts, *captions) as video_unet:
            sampling = tav_core.edit(video_unet, start, *prompts, model.schedule, config, mask=free)
            *_, last = Progress(count).over(sampling)
        return io.NodeOutput(host_latents(last.latents, model))


def _sampling_config(
    steps: int, guidance: float, early_guidance: float = 0.0, source_guidance: float = 0.0, **settings: Any
) -> SamplingConfig:
    """The values of the widgets under the names of the core, which are the same for `settings`."""
    scales = dict(high_noise_guidance_scale=early_guidance or None, source_guidance_scale=source_guidance or None)
    return SamplingConfig(steps, guidance, **scales, **settings)


def _advanced_inputs() -> list[io.Input]:
    seed = "Of fresh noise; without effect while start_from is inversion and eta is 0."
    eta = "Fresh noise in each step: 0 for none (DDIM), 1 for as much as DDPM adds."
    rescale = "Takes back the contrast that strong guidance adds. 0.7 if colours burn out."
    denoise = (
        "Share of the steps to run: below 1 starts from within the inversion and changes the clip less. 0.8 for a "
        "source branch."
    )
    start = (
        "inversion is the published way. noise uses only the size of LATENT: the motion then comes from the tuning. "
        "source branch preserves most of the clip; it takes the LATENT of VAE Encode, a caption and denoise 0.6 to 0.8."
    )
    early = (
        "Guidance at high noise, where the layout is decided; 0 for the same at all levels. Raise it if the old "
        "outline stays."
    )
    source = (
        "With a source branch: guidance for the clip itself; 0 for that of the edit. 1 preserves more of the clip and "
        "is faster."
    )
    cross = (
        "With a source branch: the share of the steps in which the words of the prompt act where those of the caption "
        "do: 1 for another colour or style, 0 for another place. Word prompt and caption alike."
    )
    shape = (
        "With a source branch: share of the steps in which pixels look where they look in the clip, which preserves "
        "shapes."
    )
    away = (
        "With a source branch: guide away from the caption in place of the negative prompt. Changes only what the two "
        "prompts say differently: for another place or subject."
    )
    along = (
        "With a source branch: share what changes among the frames, along the optical flow of the clip. Off for "
        "another colour or style."
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
    ]
