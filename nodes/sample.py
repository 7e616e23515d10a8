"""TAVSample: the edit, sampled under another prompt."""

from typing import Any

from comfy_api.latest import io

from .. import tav_core
from ..tav_core import SamplingConfig
from .adapters.data import START_FROM, edit_start, embeddings, host_latents
from .adapters.handle import TavModel, loaded
from .adapters.progress import Progress
from .sockets import CATEGORY, TavModelSocket, advanced

DEFAULTS = SamplingConfig()
INVERSION, *_ = START_FROM


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
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
                io.Int.Input(
                    "steps",
                    default=DEFAULTS.num_inference_steps,
                    min=1,
                    max=1000,
                    tooltip="The same number as in DDIM Invert.",
                ),
                io.Float.Input(
                    "guidance",
                    default=DEFAULTS.guidance_scale,
                    min=0.0,
                    max=30.0,
                    step=0.5,
                    tooltip="How strongly the prompt acts. 7 to 13 for Stable Diffusion, 2.5 for the bundled model; 1 "
                    "is none, and takes half the time.",
                ),
                *_advanced_inputs(),
                io.Conditioning.Input(
                    "caption",
                    optional=True,
                    tooltip="What the clip shows, as tuned. Needed for a source branch.",
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
        steps: int,
        guidance: float,
        seed: int = DEFAULTS.seed,
        eta: float = DEFAULTS.eta,
        guidance_rescale: float = DEFAULTS.guidance_rescale,
        denoise: float = DEFAULTS.denoise,
        start_from: str = INVERSION,
        caption: Any = None,
        mask: Any = None,
        early_guidance: float = 0.0,
    ) -> io.NodeOutput:
        config = SamplingConfig(steps, guidance, eta, seed, guidance_rescale, denoise, early_guidance or None)
        prompts = embeddings(positive, "positive"), embeddings(negative, "negative")
        start, free = edit_start(start_from, latents, caption, mask, model, config)
        count = len(model.schedule.timesteps(steps, denoise))
        clip = start.latents if isinstance(start, tav_core.SourceBranch) else start
        with loaded(model, clip, config) as video_unet:
            sampling = tav_core.edit(video_unet, start, *prompts, model.schedule, config, mask=free)
            *_, last = Progress(count).over(sampling)
        return io.NodeOutput(host_latents(last.latents, model))


def _advanced_inputs() -> list[io.Input]:
    seed = "Of fresh noise; without effect while start_from is inversion and eta is 0."
    eta = "Fresh noise in each step: 0 for none (DDIM), 1 for as much as DDPM adds."
    rescale = "Takes back the contrast that strong guidance adds. 0.7 if colours burn out."
    denoise = (
        "Share of the steps to run: below 1 starts from within the inversion and changes the clip less. The bundled "
        "model takes 0.8."
    )
    start = (
        "inversion is the published way. noise uses only the size of LATENT: the motion then comes from the tuning. "
        "source branch preserves most of the clip; it takes the LATENT of VAE Encode, a caption and denoise 0.6 to 0.8."
    )
    early = (
        "Guidance at high noise, where the layout is decided; 0 for the same at all levels. With a source branch the "
        "bundled model takes 4: raise it if the old outline stays."
    )
    share = dict(min=0.0, max=1.0, step=0.05)
    return [
        advanced(io.Int, "seed", DEFAULTS.seed, seed, min=0, max=2**63 - 1, control_after_generate=False),
        advanced(io.Float, "eta", DEFAULTS.eta, eta, **share),
        advanced(io.Float, "guidance_rescale", DEFAULTS.guidance_rescale, rescale, **share),
        advanced(io.Float, "denoise", DEFAULTS.denoise, denoise, **share | {"min": 0.05}),
        advanced(io.Combo, "start_from", INVERSION, start, options=list(START_FROM)),
        advanced(io.Float, "early_guidance", 0.0, early, label="high_noise_guidance", min=0.0, max=30.0, step=0.5),
    ]
