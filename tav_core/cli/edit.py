"""The command `edit`: a model tuned on a clip, the clip sampled under another prompt, from file to file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..checks import check_device, check_number
from ..diffusion.schedule import NoiseSchedule
from ..editing.inversion import InversionConfig
from ..editing.sampling import SamplingConfig
from ..editing.strength import STRENGTHS, best
from ..editor import ClipEditor
from ..memory.budget import FEWER_FRAMES, checkpointing_within, device_memory, frames_within, ran_out_of_memory
from ..models.base import load_model
from ..store import Store
from ..store.tuned import MAX_STRENGTH
from ..tuning.config import CHECKPOINTING, TuningConfig
from ..video import check_output, read_video, write_video
from .edit_options import AUTO, edit_settings, frozen_dtype, kept, steadied
from .progress import show_progress


def run(args: argparse.Namespace) -> None:
    """Tune, invert, sample, decode and write, as was asked."""
    tuning, inversion, sampling = edit_settings(args)
    keep = kept(args)
    if args.mask is not None and keep == "nothing":
        raise ValueError("--mask locks an edit beside the clip: give --keep noise or --keep inversion with it.")
    if args.strength != AUTO:
        check_number("--strength", args.strength, -MAX_STRENGTH, MAX_STRENGTH)
    check_output(args.output)
    check_device(args.device)
    model = load_model(args.model, device=args.device, dtype=frozen_dtype(args))
    timesteps = NoiseSchedule.from_scheduler(model.scheduler).timesteps(sampling.num_inference_steps, sampling.denoise)
    clip = read_video(
        args.video,
        num_frames=args.num_frames,
        start=args.start,
        fps=args.fps,
        width=args.width or model.image_size,
        height=args.height or model.image_size,
    )
    mask = None if args.mask is None else _read_mask(args.mask, clip.frames)
    store = None if args.store is None else Store(args.store)
    editor = ClipEditor(model, clip.frames, args.source_prompt, store=store)
    if args.gradient_checkpointing == AUTO:
        free, _ = device_memory(editor.video_unet.device)
        checkpointing = checkpointing_within(editor.video_unet, editor.latents, tuning, free)
    else:
        checkpointing = CHECKPOINTING[args.gradient_checkpointing]
    tuning = replace(tuning, gradient_checkpointing=checkpointing)
    options = dict(keep=keep, mask=mask, negative_prompt=args.negative_prompt)
    doing: TuningConfig | SamplingConfig = tuning
    try:
        for _ in show_progress(editor.tune(tuning), "tune", tuning.steps):
            pass
        doing = sampling
        if args.strength == AUTO:
            latents = _tried(editor, args.prompt, sampling, inversion=inversion, **options)
        else:
            editor.set_strength(args.strength)
            latents = _sampled(editor, args.prompt, inversion, sampling, len(timesteps), options)
        frames = editor.decode(latents)
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise MemoryError(out_of_memory(editor, doing)) from error
    if steadied(args):
        frames = torch.stack(list(show_progress(editor.steady(frames), "steady", len(frames))))
    write_video(args.output, frames, clip.fps, audio=clip.audio)
    sys.stdout.write(f"{args.output}\n")


def out_of_memory(editor: ClipEditor, doing: TuningConfig | SamplingConfig) -> str:
    """What happened and what to lower, to what."""
    frames, height, width, _ = editor.frames.shape
    _, total = device_memory(editor.video_unet.device)
    fewer = min(int(frames * FEWER_FRAMES), frames_within(editor.video_unet, editor.latents, doing, total))
    spares = isinstance(doing, TuningConfig) and doing.gradient_checkpointing is not True
    remedies = ["--gradient-checkpointing on"] if spares else []
    remedies += [f"--num-frames {fewer}"] if fewer else []
    remedies += ["--dtype float16"] if editor.video_unet.dtype == torch.float32 else []
    return (
        f"Out of memory on {frames} frames of {width} x {height} pixels. "
        f"Give {', or '.join([*remedies, 'a smaller --width and --height'])}."
    )


def _sampled(
    editor: ClipEditor,
    prompt: str,
    inversion: InversionConfig,
    sampling: SamplingConfig,
    num_steps: int,
    options: dict[str, Any],
) -> Tensor:
    """The edit's latents, at the strength that is set, after so many steps of sampling."""
    if options["keep"] != "noise":
        for _ in show_progress(editor.invert(inversion), "invert", inversion.num_inference_steps):
            pass
    steps = editor.edit(prompt, sampling, **options)
    *_, last = show_progress(steps, "sample", num_steps)
    return last.latents


def _tried(editor: ClipEditor, prompt: str, sampling: SamplingConfig, **options: Any) -> Tensor:
    """The edit's latents, at the strength that was best."""
    trials = editor.try_strengths(prompt, sampling, **options)
    chosen = best(tried := list(show_progress(trials, "try strengths", len(STRENGTHS))))
    for trial in tried:
        mark = " (taken)" if trial is chosen else ""
        sys.stdout.write(f"strength {trial.strength:g}: asked {trial.asked:.3f}, kept {trial.kept:.3f}{mark}\n")
    return chosen.latents


def _read_mask(path: str, frames: Tensor) -> Tensor:
    """The brightness of a mask at the size of the frames, (f, h, w) or (1, h, w)."""
    drawn = read_video(path, width=frames.shape[2], height=frames.shape[1]).frames.mean(-1)
    if len(drawn) not in (1, len(frames)):
        raise ValueError(f"--mask has {len(drawn)} frames and the clip {len(frames)}; give as many, or one for all.")
    return drawn
