"""TAVSample: the edit, sampled under another prompt."""

from typing import Any

from comfy_api.v0_0_2 import io, ui

from .. import tav_core
from .adapters.data import guided_embeddings, host_latents, quick_pictures
from .adapters.folders import open_store
from .adapters.handle import TavModel, loaded
from .adapters.labels import SAMPLING, labelled
from .adapters.progress import Progress
from .adapters.starts import edit_start, raise_if_blank
from .adapters.ways import CUSTOM, INVERSION, SOURCE_BRANCH, chosen_settings, way_values
from .adapters.work import shows_work
from .sampling_inputs import sampling_inputs
from .sockets import CATEGORY, DDIM


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSample",
            display_name="Sample Edit (Tune-A-Video)",
            category=CATEGORY,
            description="Samples the clip under the edit's prompt. One choice, way, sets the rest: as published, "
            "another content, or another look.",
            search_aliases=[
                "sample video",
                "video sampler",
                "edit video",
                "tune a video sample",
                "ksampler video",
                "lcm",
            ],
            inputs=sampling_inputs(),
            outputs=[io.Latent.Output("edit", display_name="LATENT", tooltip="The edited clip, for VAE Decode.")],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def check_lazy_status(cls, model: Any, way: str = CUSTOM, **inputs: Any) -> list[str]:
        """The one of latents and clip_latents that the start needs, so that no clip is inverted in vain."""
        wanted = _start_input(_start_of(way, inputs), "clip_latents" in inputs)
        return [wanted] if inputs.get(wanted) is None else []

    @classmethod
    @shows_work
    def execute(
        cls,
        model: TavModel,
        positive: Any,
        negative: Any,
        latents: dict | None = None,
        way: str = CUSTOM,
        caption: Any = None,
        mask: Any = None,
        clip_latents: dict | None = None,
        keep: bool = True,
        sampler: str = DDIM,
        **given: Any,
    ) -> io.NodeOutput:
        from ..tav_core.editing.samplers import sampler_of

        model = model.sampled_by(sampler)
        with labelled(SAMPLING):
            start_from, config = chosen_settings(way, model.preset, given)
            steps_by = sampler_of(sampler, source_branch=start_from == SOURCE_BRANCH)
            count = len(model.schedule.timesteps(config.num_inference_steps, config.denoise))
        raise_if_blank(cls.hidden.prompt, "caption", "write what the clip shows")
        raise_if_blank(cls.hidden.prompt, "positive", "write what the edit shows")
        name = _start_input(start_from, clip_latents is not None)
        given_latents = clip_latents if name == "clip_latents" else latents
        start, free, warnings = edit_start(start_from, given_latents, caption, mask, model, config)
        clip, *captions = (start.latents, start.caption) if isinstance(start, tav_core.SourceBranch) else (start,)
        prompts = guided_embeddings(positive, negative, model, clip)
        progress = Progress(count, warnings)
        with labelled(SAMPLING), loaded(model, clip, config, *prompts, *captions) as video_unet:
            run = open_store().edit if keep else tav_core.edit
            sampling = run(video_unet, start, *prompts, model.schedule, config, mask=free, sampler=steps_by)
            for step in progress.over(sampling):
                progress.play(None if step.clean is None else quick_pictures(step.clean, model))
        report = progress.report(progress.closing_text)
        return io.NodeOutput(host_latents(step.latents, model), ui=ui.PreviewText(report))


def _start_of(way: str, given: Any) -> str:
    from ..tav_core.presets import PUBLISHED

    known = {} if way == CUSTOM else way_values(way, PUBLISHED)
    return known.get("start_from") or given.get("start_from") or INVERSION


def _start_input(start_from: str, has_clip: bool) -> str:
    """The input that a start reads."""
    return "clip_latents" if has_clip and start_from != INVERSION else "latents"
