"""TAVDDIMInvert: the noise from which the tuned model would draw the clip."""

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui

from ..tav_core import InversionConfig, SamplingConfig, invert, sample
from ..tav_core.editing.reconstruction import reconstruction_snr
from ..tav_core.store import StoredInversion
from . import adapters
from .sockets import CATEGORY, TavModelSocket, advanced

UNGUIDED = SamplingConfig(guidance_scale=1.0)  # one pass with one prompt, as a step of the inversion
AS_NEAR_AS_THE_VAE = 40  # dB of latents, from which pictures are within 0.5 dB of the bundled VAE: docs/LOG.md


class DDIMInvert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        refinements = "Extra predictions in each step: sampling then returns to the clip more exactly. 0 as published."
        keep = "Keep the inversion in models/tune_a_video_store, so that the same one is found again at once."
        check = (
            "Sample the inverted clip again, without guidance, and say how near it comes to the clip, before time goes "
            "into edits. Takes about as long as the inversion, once: what it says is kept with it."
        )
        return io.Schema(
            node_id="TAVDDIMInvert",
            display_name="DDIM Invert (Tune-A-Video)",
            category=CATEGORY,
            description="Walks the clip back to noise with the tuned model. Sampling from that noise keeps the motion "
            "and the layout of the clip.",
            search_aliases=["ddim inversion", "invert video", "video to noise", "unsample"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The model tuned on this clip."),
                io.Latent.Input("latents", tooltip="The clip, from VAE Encode: the same that the model was tuned on."),
                io.Conditioning.Input("conditioning", tooltip="The empty prompt, as published."),
                io.Int.Input(
                    "steps",
                    default=InversionConfig().num_inference_steps,
                    min=1,
                    max=1000,
                    tooltip="The same number as in Sample Edit. More follow the clip more closely.",
                ),
                advanced(io.Int, "refinements", InversionConfig().refinements, refinements, min=0, max=10),
                advanced(io.Boolean, "keep", True, keep),
                advanced(io.Boolean, "check", True, check),
            ],
            outputs=[
                io.Latent.Output("noise", display_name="LATENT", tooltip="The inverted clip, for Sample Edit."),
                io.String.Output("report", display_name="report", tooltip="How near the inverted clip comes back."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: adapters.TavModel,
        latents: dict,
        conditioning: Any,
        steps: int,
        refinements: int = 0,
        keep: bool = True,
        check: bool = True,
    ) -> io.NodeOutput:
        clip = adapters.clip_latents(latents, model)
        text = adapters.embeddings(conditioning, "conditioning")
        with adapters.loaded(model, clip, UNGUIDED) as video_unet:
            run = adapters.store().invert if keep else invert
            walk = run(video_unet, clip, text, model.schedule, InversionConfig(steps, refinements))
            progress = adapters.Progress(steps)
            trajectory = list(progress.over(walk))
            inverted = adapters.inverted_latents(trajectory, model)
            if not check:
                return io.NodeOutput(inverted, "")
            decibels = walk.likeness if isinstance(walk, StoredInversion) else None
            if decibels is None:
                unguided = replace(UNGUIDED, num_inference_steps=steps)
                again = sample(video_unet, trajectory[-1].latents, text, None, model.schedule, unguided)
                *_, last = adapters.Progress(steps).over(again, lambda step: "sampling again")
                decibels = reconstruction_snr(clip, last.latents)
                if isinstance(walk, StoredInversion):
                    walk.save_reconstruction_snr(decibels)
        report = _report(decibels)
        progress.tell(report)
        return io.NodeOutput(inverted, report, ui=ui.PreviewText(report))


def _report(decibels: float) -> str:
    near = decibels >= AS_NEAR_AS_THE_VAE
    verdict = "as near as the VAE allows" if near else "more refinements bring it nearer"
    return f"Comes back at {decibels:.1f} dB of its latents: {verdict}"
