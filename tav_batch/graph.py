"""A row as a graph of the node pack, in ComfyUI's API form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tav_core.job import EditJob
from tav_core.job.files import parsed_fields
from tav_core.models.base import DEMO_MODEL

from .plan import image_size
from .record import Task

SAVED = "save"  # the node whose output is the edit
FORMATS = {".mp4": "mp4", ".webm": "webm", ".gif": "gif", ".mkv": "mkv", ".mov": "mov"}
NOT_ON_SERVERS = (
    "control",
    "more_video",
    "mask",
    "fps",
    "dtype",
    "negative_prompt",
)  # fields that the graph has no node for
Graph = dict[str, Any]


class GraphError(ValueError):
    """A row has a setting that the graph lacks."""


def graph_of(task: Task, clip: str) -> Graph:
    """The graph of a row.

    Arguments:
        task: the row.
        clip: the name of its clip in the server's input folder.

    Raises:
        GraphError: with the field, and the engine to take in its place.
    """
    job = EditJob(**parsed_fields(task.job, Path()), output=Path(task.file))
    given = [name for name in NOT_ON_SERVERS if task.job.get(name) is not None]
    given += ["strength"] * (job.strength != 1)
    if given:
        raise GraphError(f"{given[0]} is not run on ComfyUI servers: leave it out, or give --workers.")
    if (suffix := Path(task.file).suffix) not in FORMATS:
        raise GraphError(f"{suffix} is not written by ComfyUI servers: give --suffix {', '.join(FORMATS)}.")
    settings = job.settings()
    nodes = _model(job) | _clip(job, clip) | _tuned(job)
    start = "latents"
    if job.starts_from == "inversion":
        inversion = settings.inversion
        values: Graph = dict(steps=inversion.num_inference_steps, refinements=inversion.refinements, check=False)
        values["sampler"] = job.sampler
        nodes["inverted"] = _node(
            "TAVDDIMInvert", **values, model=["tuned", 0], latents=["latents", 0], conditioning=["empty", 0]
        )
        start = "inverted"
    nodes["sampled"] = _sampled(job, start)
    nodes["edit"] = _node("VAEDecode", samples=["sampled", 0], vae=["model", 2])
    if job.deflickers:
        nodes["decoded"] = _node("VAEDecode", samples=["latents", 0], vae=["model", 2])
        nodes["steady"] = _node("TAVSteady", images=["edit", 0], clip=["clip", 0], decoded_clip=["decoded", 0])
    saved: dict[str, Any] = dict(fps=["clip", 1], filename_prefix=f"tav-batch/{task.number}", crf=17, audio=["clip", 3])
    images = ["steady" if job.deflickers else "edit", 0]
    nodes[SAVED] = _node("TAVSaveVideo", images=images, format=FORMATS[suffix], **saved)
    return nodes


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _model(job: EditJob) -> Graph:
    """The model, by the name of its file on the server, and the prompts."""
    if job.model == DEMO_MODEL:
        model = _node("TAVLoadDemoModel")
    else:
        model = _node("CheckpointLoaderSimple", ckpt_name=Path(job.model).name)
    texts = {"caption": job.source_prompt, "prompt": job.prompt, "empty": ""}
    return {"model": model} | {
        name: _node("CLIPTextEncode", text=text, clip=["model", 1]) for name, text in texts.items()
    }


def _clip(job: EditJob, clip: str) -> Graph:
    size = image_size(str(job.model))
    taken = dict(num_frames=job.num_frames, width=job.width or size, height=job.height or size, start=job.start)
    return {
        "clip": _node("TAVLoadVideo", file=clip, stride=1, fit="crop", **taken),
        "latents": _node("VAEEncode", pixels=["clip", 0], vae=["model", 2]),
    }


def _tuned(job: EditJob) -> Graph:
    tuning = job.settings().tuning
    same = ("steps", "learning_rate", "seed", "lr_schedule", "warmup_steps", "gradient_accumulation_steps")
    values = {name: getattr(tuning, name) for name in (*same, "timestep_range", "weight_decay", "max_grad_norm")}
    values |= {"min_snr_gamma": tuning.min_snr_gamma or 0.0, "gradient_checkpointing": job.gradient_checkpointing}
    values |= {"context_length": tuning.context_length or 0, "objective": tuning.loss}
    return {
        "inflated": _node(
            "TAVInflateUNet", model=["model", 0], precision="auto", group_norm="video", lora_rank=job.lora_rank
        ),
        "tuned": _node(
            "TAVOneShotTune",
            model=["inflated", 0],
            latents=["latents", 0],
            caption=["caption", 0],
            preview_every=0,
            keep=True,
            **values,
        ),
    }


def _sampled(job: EditJob, start: str) -> dict[str, Any]:
    sampling = job.settings().sampling
    values: dict[str, Any] = dict(
        steps=sampling.num_inference_steps, guidance=sampling.guidance_scale, seed=sampling.seed
    )
    values |= dict(
        sampler=job.sampler, eta=sampling.eta, guidance_rescale=sampling.guidance_rescale, denoise=sampling.denoise
    )
    values |= dict(
        start_from=job.starts_from.replace("_", " "), early_guidance=sampling.high_noise_guidance_scale or 0.0
    )
    if job.starts_from == "source_branch":
        values |= dict(source_guidance=sampling.source_guidance_scale or 0.0, caption=["caption", 0])
        same = ("cross_replace_steps", "self_replace_steps", "guide_from_caption", "propagate")
        values |= {name: getattr(sampling, name) for name in same}
    tied: dict[str, Any] = dict(latents=[start, 0], positive=["prompt", 0], negative=["empty", 0])
    return _node("TAVSample", model=["tuned", 0], **tied, **values)
