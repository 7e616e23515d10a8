"""TAVSample: the edit, sampled from the inverted clip under another prompt."""

from typing import Any

from comfy_api.latest import io

from ..tav_core import SamplingConfig, plain_noise, sample
from . import adapters
from .sockets import CATEGORY, TavModelSocket

DEFAULTS = SamplingConfig()


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSample",
            display_name="Sample Edit (Tune-A-Video)",
            category=CATEGORY,
            description="Samples the clip anew under the prompt of the edit, from the noise that DDIM Invert found.",
            search_aliases=["sample video", "video sampler", "edit video", "tune a video sample", "ksampler video"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The model tuned on the clip."),
                io.Latent.Input("latents", tooltip="The noise, from DDIM Invert."),
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
                    tooltip="How strongly the prompt acts. 7 to 13 for Stable Diffusion, 5 for the bundled model; 1 is "
                    "none, and takes half the time.",
                ),
                io.Int.Input(
                    "seed",
                    default=DEFAULTS.seed,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    tooltip="Of fresh noise; without effect while start_from is the inverted clip and eta is 0.",
                    optional=True,
                    advanced=True,
                ),
                io.Float.Input(
                    "eta",
                    default=DEFAULTS.eta,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Fresh noise in each step: 0 for none (DDIM), 1 for as much as DDPM adds.",
                    optional=True,
                    advanced=True,
                ),
                io.Float.Input(
                    "guidance_rescale",
                    default=DEFAULTS.guidance_rescale,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Takes back the contrast that strong guidance adds. 0.7 if colours burn out.",
                    optional=True,
                    advanced=True,
                ),
                io.Combo.Input(
                    "start_from",
                    options=["inverted clip", "fresh noise"],
                    default="inverted clip",
                    tooltip="fresh noise uses only the size of LATENT: the motion is then the tuning's alone.",
                    optional=True,
                    advanced=True,
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
        start_from: str = "inverted clip",
    ) -> io.NodeOutput:
        config = SamplingConfig(steps, guidance, eta, seed, guidance_rescale)
        noise = adapters.clip_latents(latents, model)
        if start_from == "fresh noise":
            noise = plain_noise(noise.shape, seed)
        else:
            adapters.inverted_start(latents, steps)
        prompts = adapters.embeddings(positive, "positive"), adapters.embeddings(negative, "negative")
        with adapters.put_to_work(model, noise) as video_unet:
            walk = sample(video_unet, noise, *prompts, model.schedule, config)
            for step in adapters.Progress(steps).over(walk):
                edit = step.latents
        return io.NodeOutput(adapters.host_latents(edit, model))
