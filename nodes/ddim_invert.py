"""TAVDDIMInvert: the noise from which the tuned model would draw the clip."""

from typing import Any

from comfy_api.v0_0_2 import io, ui

from .. import tav_core
from ..tav_core import InversionConfig, SamplingConfig
from ..tav_core.editing.config import SAMPLERS
from .adapters.data import clip_latents, embeddings
from .adapters.folders import open_store
from .adapters.handle import TavModel, loaded
from .adapters.labels import SAMPLING, labelled
from .adapters.progress import Progress
from .adapters.starts import inverted_latents, warnings_of
from .adapters.work import shows_work
from .sockets import CATEGORY, DDIM, STEPS, TavModelSocket, advanced, widget

DEFAULTS = InversionConfig()
UNGUIDED = SamplingConfig(guidance_scale=1.0)  # one pass with one prompt, as a step of the inversion


class DDIMInvert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        steps = "The same number as in Sample Edit. More follow the clip more closely."
        refinements = "Extra predictions in each step: the clip is then reconstructed more exactly. 0 as published."
        keep = "Store the inversion in models/tune_a_video_store: the same one is then loaded at once."
        check = (
            "Sample the inverted clip again, without an edit, and report how much of it is lost on the way. Takes "
            "about as long as the inversion, once: the result is stored with it."
        )
        sampler = "The same as in Sample Edit, for few steps of distilled models. ddim_lcm and lcm invert alike."
        report = "How much of the clip is lost on the way to noise and back; empty unless check is on."
        return io.Schema(
            node_id="TAVDDIMInvert",
            display_name="DDIM Invert (Tune-A-Video)",
            category=CATEGORY,
            description="Inverts the clip to noise. Sampling from that noise preserves the motion "
            "and the layout of the clip.",
            search_aliases=["ddim inversion", "invert video", "video to noise", "unsample"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The model tuned on this clip."),
                io.Latent.Input("latents", tooltip="The clip, from VAE Encode: the same that the model was tuned on."),
                io.Conditioning.Input("conditioning", tooltip="The empty prompt, as published."),
                widget(io.Int, "steps", DEFAULTS.num_inference_steps, steps, **STEPS),
                advanced(io.Int, "refinements", DEFAULTS.refinements, refinements, min=0, max=10),
                advanced(io.Boolean, "keep", True, keep),
                advanced(io.Boolean, "check", False, check),
                advanced(io.Combo, "sampler", DDIM, sampler, options=list(SAMPLERS)),
            ],
            outputs=[
                io.Latent.Output("noise", display_name="LATENT", tooltip="The inverted clip, for Sample Edit."),
                io.String.Output("report", display_name="report", tooltip=report),
            ],
        )

    @classmethod
    @shows_work
    def execute(
        cls,
        model: TavModel,
        latents: dict,
        conditioning: Any,
        steps: int,
        refinements: int = 0,
        keep: bool = True,
        check: bool = False,
        sampler: str = DDIM,
    ) -> io.NodeOutput:
        model = model.sampled_by(sampler)
        clip = clip_latents(latents, model)
        text = embeddings(conditioning, "conditioning", model, clip)
        config, store = InversionConfig(steps, refinements), open_store() if keep else None
        with labelled(SAMPLING), loaded(model, clip, UNGUIDED, text) as video_unet:
            run = tav_core.invert_clip(video_unet, clip, text, model.schedule, config, store=store, check=check)
            progress = Progress(steps * (1 + check), warnings_of(model, clip))
            for _ in progress.over(run, _describe):
                pass
        report = _report(run.reconstruction_snr)
        shown = progress.report(report or progress.closing_text)
        return io.NodeOutput(inverted_latents(run.trajectory, model), report, ui=ui.PreviewText(shown))


def _describe(step: Any) -> str:
    return "" if isinstance(step, tav_core.InversionStep) else "checking the reconstruction"


def _report(snr: float | None) -> str:
    from ..tav_core.editing.reconstruction import GOOD_SNR, POOR_SNR

    if snr is None:
        return ""
    if snr >= GOOD_SNR:
        return (
            f"Reconstruction SNR {snr:.1f} dB: nothing of the clip is lost; an edit loses no detail by the inversion."
        )
    if snr < POOR_SNR:
        return (
            f"Reconstruction SNR {snr:.1f} dB: sampled without an edit, the clip does not come back. An edit still has "
            "its motion, from the tuning, and loses detail and layout. Set refinements to 10, or set way of Sample "
            "Edit to content or look."
        )
    return (
        f"Reconstruction SNR {snr:.1f} dB: motion and layout of the clip are there, fine detail drifts a little. That "
        "is usual, and does for most edits. If yours must keep the detail, set refinements to 10, or set way of Sample "
        "Edit to content or look."
    )
