"""TAVSample: the edit, sampled under another prompt from the inverted clip, or beside the clip itself."""

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..tav_core import SamplingConfig, sample, sample_with_source_branch
from . import adapters
from .sockets import CATEGORY, TavModelSocket, advanced

DEFAULTS = SamplingConfig()
INVERTED, FRESH, SOURCE_BRANCH = "inverted clip", "fresh noise", "clip beside its edit"


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSample",
            display_name="Sample Edit (Tune-A-Video)",
            category=CATEGORY,
            description="Samples the clip anew under the prompt of the edit, from the noise that DDIM Invert found, or "
            "beside the clip itself, so that what the prompt does not change stays.",
            search_aliases=["sample video", "video sampler", "edit video", "tune a video sample", "ksampler video"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The model tuned on the clip."),
                io.Latent.Input(
                    "latents", tooltip="The noise, from DDIM Invert; beside the clip, its own from VAE Encode."
                ),
                io.Conditioning.Input("positive", tooltip="The prompt of the edit."),
                io.Conditioning.Input("negative", tooltip="What to keep away from; the empty prompt, as published."),
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
                    tooltip="What the clip shows, as tuned. Asked for by start_from: clip beside its edit.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where an edit beside the clip may change it; one for all frames, or one for each.",
                ),
            ],
            outputs=[io.Latent.Output("edit", display_name="LATENT", tooltip="The edited clip, for VAE Decode.")],
        )

    @classmethod
    def execute(
        cls,
        model: adapters.TavModel,
        latents: dict,
        positive: Any,
        negative: Any,
        steps: int,
        guidance: float,
        seed: int = DEFAULTS.seed,
        eta: float = DEFAULTS.eta,
        guidance_rescale: float = DEFAULTS.guidance_rescale,
        denoise: float = DEFAULTS.denoise,
        start_from: str = INVERTED,
        caption: Any = None,
        mask: Any = None,
        early_guidance: float = 0.0,
    ) -> io.NodeOutput:
        config = SamplingConfig(steps, guidance, eta, seed, guidance_rescale, denoise, early_guidance or None)
        prompts = adapters.embeddings(positive, "positive"), adapters.embeddings(negative, "negative")
        if start_from == SOURCE_BRANCH:
            start, free = adapters.source_branch(latents, caption, mask, model)
            clip = start.latents
            walk = partial(sample_with_source_branch, mask=free)
        else:
            adapters.raise_if_masked(mask)
            begin = adapters.fresh_start if start_from == FRESH else adapters.inverted_start
            start = clip = begin(latents, model, config)
            walk = sample
        count = len(model.schedule.timesteps(steps, denoise))
        with adapters.loaded(model, clip, config) as video_unet:
            for step in adapters.Progress(count).over(walk(video_unet, start, *prompts, model.schedule, config)):
                edit = step.latents
        return io.NodeOutput(adapters.host_latents(edit, model))


def _advanced_inputs() -> list[io.Input]:
    seed = "Of fresh noise; without effect while start_from is the inverted clip and eta is 0."
    eta = "Fresh noise in each step: 0 for none (DDIM), 1 for as much as DDPM adds."
    rescale = "Takes back the contrast that strong guidance adds. 0.7 if colours burn out."
    denoise = (
        "Share of the steps to run: below 1 starts from within the inversion and changes the clip less. The bundled "
        "model takes 0.8."
    )
    start = (
        "fresh noise uses only the size of LATENT: the motion is then the tuning's alone. clip beside its edit needs "
        "the LATENT of VAE Encode, a caption and denoise 0.6 to 0.8, and keeps most of the clip."
    )
    early = (
        "Guidance while it is decided what lies where; 0 for the same all along. Beside the clip the bundled model "
        "takes 4: raise it if the old outline stays."
    )
    share = dict(min=0.0, max=1.0, step=0.05)
    return [
        advanced(io.Int, "seed", DEFAULTS.seed, seed, min=0, max=2**63 - 1, control_after_generate=False),
        advanced(io.Float, "eta", DEFAULTS.eta, eta, **share),
        advanced(io.Float, "guidance_rescale", DEFAULTS.guidance_rescale, rescale, **share),
        advanced(io.Float, "denoise", DEFAULTS.denoise, denoise, **share | {"min": 0.05}),
        advanced(io.Combo, "start_from", INVERTED, start, options=[INVERTED, FRESH, SOURCE_BRANCH]),
        advanced(io.Float, "early_guidance", 0.0, early, min=0.0, max=30.0, step=0.5),
    ]
