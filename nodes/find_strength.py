"""TAVFindStrength: how strong the tuning is to be for one edit, found by trying."""

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui

from ..tav_core import SamplingConfig, best_trial
from ..tav_core.editing.strength import STRENGTHS, Trial, invert_and_sample, judge
from . import adapters
from .sockets import CATEGORY, TavModelSocket, advanced

DEFAULTS = SamplingConfig()


class FindStrength(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        denoise = "As in Sample Edit: 1 as published, 0.8 for the bundled model."
        return io.Schema(
            node_id="TAVFindStrength",
            display_name="Find Strength (Tune-A-Video)",
            category=CATEGORY,
            description="Edits the clip at several strengths of the tuning and lets the model judge which one follows "
            "the prompt and keeps the clip best. Nothing is tuned again.",
            search_aliases=["tuning strength", "balance edit", "overfit", "strength search", "tune a video strength"],
            inputs=[
                TavModelSocket.Input("model", tooltip="The model tuned on the clip."),
                io.Latent.Input("latents", tooltip="The clip, from VAE Encode."),
                io.Conditioning.Input("caption", tooltip="What the clip shows, as tuned."),
                io.Conditioning.Input("positive", tooltip="The prompt of the edit."),
                io.Conditioning.Input("negative", tooltip="The empty prompt, which the clip is inverted under too."),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="Of inversion and of sampling at each strength. Fewer than for the edit itself will do.",
                ),
                io.Float.Input(
                    "guidance",
                    default=DEFAULTS.guidance_scale,
                    min=0.0,
                    max=30.0,
                    step=0.5,
                    tooltip="As in Sample Edit.",
                ),
                advanced(io.Float, "denoise", DEFAULTS.denoise, denoise, min=0.05, max=1.0, step=0.05),
            ],
            outputs=[
                TavModelSocket.Output("tav_model", display_name="TAV_MODEL", tooltip="At the strength that was best."),
                io.String.Output("report", display_name="report", tooltip="What was found at each strength."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: adapters.TavModel,
        latents: dict,
        caption: Any,
        positive: Any,
        negative: Any,
        steps: int,
        guidance: float,
        denoise: float = DEFAULTS.denoise,
    ) -> io.NodeOutput:
        if model.tuned is None:
            raise ValueError("The model is not tuned: connect One-Shot Tune or Load Tuned Weights.")
        config = SamplingConfig(steps, guidance, denoise=denoise)
        source, _ = adapters.source_branch(latents, caption, None, model)
        prompts = adapters.embeddings(positive, "positive"), adapters.embeddings(negative, "negative")
        trials = []
        with adapters.loaded(model, source.latents, config) as video_unet:
            for strength in STRENGTHS:
                model.place(strength)
                walk = invert_and_sample(video_unet, source.latents, *prompts, model.schedule, config)
                progress = adapters.Progress(steps + len(model.schedule.timesteps(steps, denoise)))
                *_, last = progress.over(walk, lambda _, strength=strength: f"strength {strength:g}")
                texts = prompts[0], source.caption
                trials.append(judge(model.place, video_unet, strength, last.latents, *texts, model.schedule))
        report = _report(trials)
        return io.NodeOutput(replace(model, strength=best_trial(trials).strength), report, ui=ui.PreviewText(report))


def _report(trials: list[Trial]) -> str:
    lines = [f"strength {trial.strength:g}: asked {trial.asked:.3f}, kept {trial.kept:.3f}" for trial in trials]
    return "\n".join([*lines, f"taken: {best_trial(trials).strength:g}"])
