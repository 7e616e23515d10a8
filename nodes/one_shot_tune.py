"""TAVOneShotTune: fit the inflated model to one clip and its caption."""

import json
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

from comfy_api.v0_0_2 import io, ui

from .. import tav_core
from ..tav_core import TuningConfig, TuningStep
from .adapters.clips import HostClip, with_more_clips
from .adapters.data import clip_latents, embeddings, host_latents, plot_image
from .adapters.folders import open_store
from .adapters.handle import TavModel, loaded
from .adapters.labels import TUNING, labelled
from .adapters.memory import AUTO, CHECKPOINTING_KNOWN, checkpointing_that_fits
from .adapters.progress import Progress, decode_frame
from .adapters.starts import TUNED_CLIP, caption_warnings, clip_prints, raise_if_blank
from .adapters.work import shows_work
from .sockets import CATEGORY, LossMapSocket, TavModelSocket
from .tuning_inputs import tuning_inputs

CHECKPOINTING_MARKS = {False: "", "selective": ", selective checkpointing", True: ", checkpointing"}
NOT_NOTED = {"gradient_checkpointing", "compute_dtype"}  # chosen for the device; changes rounding at most


class OneShotTune(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVOneShotTune",
            display_name="One-Shot Tune (Tune-A-Video)",
            category=CATEGORY,
            description="Tunes the model on one clip under its caption, so that it learns the motion. Only queries and "
            "the temporal attention are trained. The input model stays untuned.",
            search_aliases=[
                "one shot tuning",
                "tune a video",
                "train on video",
                "fine tune video",
                "learn motion",
                "motion director",
            ],
            inputs=tuning_inputs(),
            outputs=[
                TavModelSocket.Output("tav_model", display_name="TAV_MODEL", tooltip="The tuned model."),
                LossMapSocket.Output("loss", display_name="LOSS_MAP", tooltip="The losses, for Plot Loss Graph."),
                io.Image.Output("curve", display_name="loss curve", tooltip="The losses as an image."),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, gradient_checkpointing: Any = AUTO) -> bool | str:
        """Replaces the host's check of this choice, which refuses the True and False of older workflows.

        A linked choice is None here: its value is not known yet.
        """
        if gradient_checkpointing in (None, *CHECKPOINTING_KNOWN):
            return True
        return f"one of {CHECKPOINTING_KNOWN} was expected, got {gradient_checkpointing!r}"

    @classmethod
    @shows_work
    def execute(
        cls,
        model: TavModel,
        latents: dict,
        caption: Any,
        preview_every: int = 0,
        preview_prompt: Any = None,
        preview_vae: Any = None,
        keep: bool = True,
        gradient_checkpointing: str | bool = AUTO,
        objective: str = TuningConfig.loss,
        more_clips: tuple[HostClip, ...] = (),
        fps: float | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        from ..tav_core.viz.figures import save_loss_plot

        raise_if_blank(cls.hidden.prompt, "caption", "write what the clip shows")
        config = _config(settings, loss=objective, clips_in_turn=bool(more_clips))
        clip = clip_latents(latents, model)
        text = embeddings(caption, "caption", model, clip)
        clips, more, warnings = with_more_clips((clip, text), fps, more_clips, model)
        preview = _preview_config(preview_every, preview_prompt, preview_vae, model, clip)
        progress = Progress(config.steps, [*caption_warnings(cls.hidden.prompt), *warnings])
        checkpointing = checkpointing_that_fits(model.video_unet, clips, config, gradient_checkpointing)
        config = replace(config, gradient_checkpointing=checkpointing)
        prompts = text, preview and preview.prompt
        with loaded(model, clips, config, *prompts) as video_unet:
            beside = dict(store=open_store() if keep else None, preview=preview, more=more)
            run = tav_core.tune_clip(video_unet, clip, text, model.schedule, config, **beside)
            shown = progress.over(run, lambda step: _describe(step, checkpointing), done=len(run.losses))
            with closing(shown):  # where a preview fails, the steps made so far are stored before the error is shown
                for step in shown:
                    if isinstance(step, tav_core.Preview):
                        latent = host_latents(step.latents, model)["samples"]
                        progress.show(decode_frame(preview_vae, latent))
                        model.load(clips, config, *prompts)  # the VAE may have replaced it on the device
            noted = {name: value for name, value in asdict(config).items() if name not in NOT_NOTED}
            tuned = model.with_current_weights({"tuning": json.dumps(noted), TUNED_CLIP: clip_prints(clips)})
        report = progress.report(f"{progress.closing_text}, loss {run.losses[-1]:.4f}{_special(config, len(clips))}")
        curve = plot_image(save_loss_plot, run.losses)
        return io.NodeOutput(tuned, {"loss": run.losses}, curve, ui=ui.PreviewText(report))


def _config(settings: dict[str, Any], **more: Any) -> TuningConfig:
    """The settings of the widgets, of which a 0 may stand for none."""
    without = {name: settings.get(name) or None for name in ("min_snr_gamma", "context_length")}
    with labelled(TUNING):
        return TuningConfig(**settings | without | more)


def _special(config: TuningConfig, num_clips: int) -> str:
    """What is not as published, for the report."""
    told = [f"{num_clips} clips"] if num_clips > 1 else []
    told += [f"objective {config.loss}"] if config.loss != TuningConfig.loss else []
    return "".join(f", {text}" for text in told)


def _describe(step: "TuningStep | tav_core.Preview", checkpointing: bool | str) -> str | None:
    """The text for an update; None for a preview, which is no step."""
    return f"loss {step.loss:.4f}{CHECKPOINTING_MARKS[checkpointing]}" if isinstance(step, TuningStep) else None


def _preview_config(every: int, prompt: Any, vae: Any, model: TavModel, clip: Any) -> "tav_core.PreviewConfig | None":
    if every == 0:
        return None
    if prompt is None or vae is None:
        raise ValueError("A preview needs preview_prompt and preview_vae: connect both, or set preview_every to 0.")
    return tav_core.PreviewConfig(every, embeddings(prompt, "preview_prompt", model, clip))
