"""TAVOneShotTune: fit the inflated model to one clip and its caption."""

import json
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..tav_core import SamplingConfig, TuningConfig, plain_noise, sample, tune
from ..tav_core.store import StoredTuning
from ..tav_core.viz.figures import save_loss_plot
from . import adapters
from .sockets import CATEGORY, LossMapSocket, TavModelSocket
from .tuning_inputs import tuning_inputs

CHECKPOINTING_MARKS = {False: "", "selective": ", selective checkpointing", True: ", checkpointing"}
NOT_NOTED = {"gradient_checkpointing", "compute_dtype"}  # chosen for the device; changes rounding at most
PREVIEW = SamplingConfig(num_inference_steps=10, guidance_scale=1.0)


class OneShotTune(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVOneShotTune",
            display_name="One-Shot Tune (Tune-A-Video)",
            category=CATEGORY,
            description="Tunes the model on one clip under its caption, so that it learns the motion. Only queries and "
            "the attention over time are trained. The model that comes in stays untuned.",
            search_aliases=["one shot tuning", "tune a video", "train on video", "fine tune video", "learn motion"],
            inputs=tuning_inputs(),
            outputs=[
                TavModelSocket.Output("tav_model", display_name="TAV_MODEL", tooltip="The tuned model."),
                LossMapSocket.Output("loss", display_name="LOSS_MAP", tooltip="The losses, for Plot Loss Graph."),
                io.Image.Output("curve", display_name="loss curve", tooltip="The losses as an image."),
            ],
        )

    @classmethod
    def validate_inputs(cls, gradient_checkpointing: Any = adapters.AUTO) -> bool | str:
        """In place of the host's own check of this choice, which refuses the True and False of former versions.

        A linked one comes as None, for it is not known yet.
        """
        known = adapters.CHECKPOINTING_KNOWN
        return (
            gradient_checkpointing in (None, *known) or f"one of {known} was expected, got {gradient_checkpointing!r}"
        )

    @classmethod
    def execute(
        cls,
        model: adapters.TavModel,
        latents: dict,
        caption: Any,
        preview_every: int = 0,
        preview_prompt: Any = None,
        preview_vae: Any = None,
        keep: bool = True,
        gradient_checkpointing: str | bool = adapters.AUTO,
        **settings: Any,
    ) -> io.NodeOutput:
        config = TuningConfig(**settings | {"min_snr_gamma": settings.get("min_snr_gamma") or None})
        clip, text = adapters.clip_latents(latents, model), adapters.embeddings(caption, "caption")
        wanted = _preview_text(preview_every, preview_prompt, preview_vae)
        progress = adapters.Progress(config.steps)
        checkpointing = adapters.checkpointing_that_fits(model.video_unet, clip, config, gradient_checkpointing)
        config, mark = replace(config, gradient_checkpointing=checkpointing), CHECKPOINTING_MARKS[checkpointing]
        with adapters.loaded(model, clip, config) as video_unet:
            inputs = (video_unet, clip, text, model.schedule, config)
            walk = adapters.store().tune(*inputs) if keep else tune(*inputs)
            losses = [step.loss for step in walk.steps] if isinstance(walk, StoredTuning) else []
            told = progress.over(walk, lambda step: f"loss {step.loss:.4f}{mark}", done=len(losses))
            with closing(told):  # where a preview fails, the steps made so far are kept before that is told
                for step in told:
                    losses.append(step.loss)
                    if wanted is not None and step.step % preview_every == 0:
                        progress.show(_preview(model, video_unet, clip, wanted, preview_vae))
                        model.load(clip, config)  # the VAE may have taken its place
            known = {name: value for name, value in asdict(config).items() if name not in NOT_NOTED}
            tuned = model.with_weights_in_place({"tuning": json.dumps(known)})
        return io.NodeOutput(tuned, {"loss": losses}, adapters.plot_image(lambda file: save_loss_plot(file, losses)))


def _preview_text(preview_every: int, prompt: Any, vae: Any) -> Tensor | None:
    if preview_every == 0:
        return None
    if prompt is None or vae is None:
        raise ValueError("A preview needs preview_prompt and preview_vae: connect both, or set preview_every to 0.")
    return adapters.embeddings(prompt, "preview_prompt")


def _preview(model: adapters.TavModel, video_unet: Any, clip: Tensor, text: Tensor, vae: Any) -> Tensor:
    """The middle frame of a quick sample of the edit, (1, h, w, 3)."""
    first = model.schedule.timesteps(PREVIEW.num_inference_steps)[0]
    noise = model.schedule.add_noise(clip, plain_noise(clip.shape, 0), first)
    *_, last = adapters.interruptible(sample(video_unet, noise, text, None, model.schedule, PREVIEW))
    middle = clip.shape[2] // 2
    return adapters.decode_frame(vae, adapters.host_latents(last.latents[:, :, middle : middle + 1], model)["samples"])
