"""TAVFindStrength: the strength of the tuning that scores best for one edit."""

from dataclasses import replace
from functools import partial
from typing import Any

from comfy_api.v0_0_2 import io, ui

from .. import tav_core
from ..tav_core import SamplingConfig
from .adapters.data import clip_latents, embeddings, guided_embeddings
from .adapters.handle import TavModel, loaded
from .adapters.progress import Progress
from .adapters.work import shows_work
from .sockets import CATEGORY, GUIDANCE, POSITIVE_SHARE, STEPS, TavModelSocket, advanced, widget

DEFAULTS = SamplingConfig()


class FindStrength(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        steps = "Of inversion and of sampling at each strength. Fewer than for the edit itself will do."
        denoise = "As in Sample Edit: 1 as published."
        return io.Schema(
            node_id="TAVFindStrength",
            display_name="Find Strength (Tune-A-Video)",
            category=CATEGORY,
            description="Edits the clip at several strengths of the tuning, and scores how each follows the prompt "
            "and preserves the clip. Nothing is tuned again.",
            search_aliases=["tuning strength", "balance edit", "overfit", "strength search", "tune a video strength"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The model tuned on the clip."),
                io.Latent.Input("latents", tooltip="The clip, from VAE Encode."),
                io.Conditioning.Input("caption", tooltip="What the clip shows, as tuned."),
                io.Conditioning.Input("positive", tooltip="The prompt of the edit."),
                io.Conditioning.Input("negative", tooltip="As in Sample Edit."),
                io.Conditioning.Input("conditioning", tooltip="As in DDIM Invert: the empty prompt, as published."),
                widget(io.Int, "steps", 20, steps, **STEPS),
                widget(io.Float, "guidance", DEFAULTS.guidance_scale, "As in Sample Edit.", **GUIDANCE),
                advanced(io.Float, "denoise", DEFAULTS.denoise, denoise, **POSITIVE_SHARE),
            ],
            outputs=[
                TavModelSocket.Output("tav_model", display_name="TAV_MODEL", tooltip="At the best strength."),
                io.String.Output("report", display_name="report", tooltip="The scores at each strength."),
            ],
        )

    @classmethod
    @shows_work
    def execute(
        cls,
        model: TavModel,
        latents: dict,
        caption: Any,
        positive: Any,
        negative: Any,
        conditioning: Any,
        steps: int,
        guidance: float,
        denoise: float = DEFAULTS.denoise,
    ) -> io.NodeOutput:
        from ..tav_core.editing.edit import invert_and_sample
        from ..tav_core.editing.strength import STRENGTHS

        if model.tuned is None:
            raise ValueError("The model is not tuned: connect One-Shot Tune or Load Tuned Weights.")
        config = SamplingConfig(steps, guidance, denoise=denoise)
        clip = clip_latents(latents, model)
        text, prompts = embeddings(caption, "caption", model, clip), guided_embeddings(positive, negative, model, clip)
        empty = embeddings(conditioning, "conditioning", model, clip)
        count = len(STRENGTHS) * (steps + len(model.schedule.timesteps(steps, denoise)))
        with loaded(model, clip, config, text, empty, *prompts) as video_unet:
            edited = partial(
                invert_and_sample, video_unet, clip, *prompts, model.schedule, config, inverted_under=empty
            )
            search = tav_core.search_strength(video_unet, edited, prompts[0], text, model.schedule)
            progress = Progress(count)
            items = list(progress.over(search, _describe))
        trials = [item for item in items if isinstance(item, tav_core.Trial)]
        report = progress.report(_report(trials))
        found = replace(model, strength=tav_core.best_trial(trials).strength)
        return io.NodeOutput(found, report, ui=ui.PreviewText(report))


def _describe(item: Any) -> str | None:
    """The text for a step; None for a trial, which is no step."""
    return None if isinstance(item, tav_core.Trial) else "strength search"


def _report(trials: "list[tav_core.Trial]") -> str:
    lines = [
        f"strength {trial.strength:g}: prompt score {trial.prompt_score:.3f}, source score {trial.source_score:.3f}"
        for trial in trials
    ]
    return "\n".join([*lines, f"taken: {tav_core.best_trial(trials).strength:g}"])
