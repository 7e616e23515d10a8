"""A clip that is longer than what a tuning step sees: tuned on windows, sampled as a whole and in windows.

    python -m benchmarks fidelity long_clips [--num-frames 64] [--length 16] [--curve FILE.png]

One held-out clip of the drawn world with the bundled model, another coat. All edits start from one inversion of the
whole clip. A window is led by no frame, by the one before it (as ComfyUI's own windows are by default), by the first,
or by both (Context Windows). dB: against the edit sampled as a whole. At seams: the error that a step from one frame to
the next adds where windows begin or end, over that elsewhere. Joints: distance in pixels from the true edit's, as a
reader net sees them, over the frames of the first window and over all others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness, results
from benchmarks.fidelity.scenes import TEST, BenchClip
from bundled_model.reader import READER, joint_error, load_reader, read
from tav_core import (
    CFG,
    Denoiser,
    NoiseSchedule,
    TuningConfig,
    VideoUNet,
    ddim_invert,
    ddim_sample,
    decode_latents,
    encode_frames,
    encode_prompts,
    estimate_memory,
    inflate,
    load_model,
    tune,
    unet_denoiser,
)
from tav_core.demo.world import caption
from tav_core.editing.windows import Window, windows_of
from tav_core.presets import BUNDLED
from tav_core.viz.figures import save_curves

KIND = ("coat",)
WHOLE, OURS = "as a whole", "frames 0 and s - 1"
LEADS: dict[str, Callable[[Window], list[int]]] = {
    "no frame": lambda window: [],
    "frame s - 1": lambda window: [window.start - 1] if window.start else [],
    "frame 0": lambda window: [0] if window.start else [],
    OURS: lambda window: window.leads,
}
HEAD = ["windows led by", "dB", "at seams", "joints, first window", "joints, others", "CPU s for a step"]


@dataclass(frozen=True, eq=False)
class Windowed:
    """A denoiser of a long clip by one of windows: predictions are averaged with the weights of the windows."""

    denoiser: Denoiser
    windows: list[Window]
    leads: Callable[[Window], list[int]]

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        total, weights = torch.zeros_like(x_t), x_t.new_zeros(x_t.shape[2], 1, 1)
        for window in self.windows:
            leads, share = self.leads(window), window.weights[:, None, None]
            predicted = self.denoiser(x_t[:, :, leads + window.frames], t)[:, :, len(leads) :]
            total[:, :, window.frames] += share * predicted
            weights[window.frames] += share
        return total / weights


def run(arguments: list[str]) -> str:
    """Tune, sample in each way, and make the table."""
    args = _parse(arguments)
    torch.set_num_threads(1)
    clip, model = BenchClip(TEST + 1, args.num_frames), load_model()
    windows = windows_of(args.num_frames, args.length, args.overlap)
    config = replace(BUNDLED.tuning, context_length=args.length)
    video_unet = inflate(model.unet)
    latents = encode_frames(model, torch.from_numpy(clip.source.frames))
    source, empty, wanted = encode_prompts(model, [clip.caption, "", caption(clip.edited(KIND))]).split(1)
    notes = [_cost(video_unet, latents, source, model.scheduler, config)]
    harness.last(tune(video_unet, latents, source, model.scheduler, config))
    plain = {name: unet_denoiser(video_unet, model.scheduler, text) for name, text in (("", empty), ("edit", wanted))}
    noise = harness.last(ddim_invert(plain[""], latents, BUNDLED.inversion))
    assert noise is not None
    edits: dict[str, tuple[Tensor, float]] = {}
    for name, leads in {WHOLE: None, **LEADS}.items():
        both = [each if leads is None else Windowed(each, windows, leads) for each in (plain["edit"], plain[""])]
        began = time.process_time()
        last = harness.last(ddim_sample(CFG(*both, BUNDLED.sampling.guidance_scale), noise.latents, BUNDLED.sampling))
        assert last is not None
        spent = (time.process_time() - began) / BUNDLED.sampling.num_inference_steps
        edits[name] = decode_latents(model, last.latents), spent
    rows, curves = _measured(edits, clip, windows, args.length)
    if args.curve:
        save_curves(args.curve, {"joints, px": curves})
    return results.report(harness.machine(), results.table(HEAD, rows), *notes)


def _measured(
    edits: dict[str, tuple[Tensor, float]], clip: BenchClip, windows: list[Window], length: int
) -> tuple[list[list[str]], dict[str, np.ndarray]]:
    """The rows of the table, and the error of joints in each frame."""
    reader, truth, whole = load_reader(READER), clip.edit(KIND), edits[WHOLE][0].numpy()
    seams = sorted({frame for window in windows for frame in (window.start, window.start + window.length)} - {0})
    seams = [frame - 1 for frame in seams if frame < clip.num_frames]
    rows, curves = [], {}
    for name, (frames, seconds) in edits.items():
        found = joint_error(read(reader, frames.numpy())[1], truth.joints).reshape(clip.num_frames, -1).mean(1)
        curves[name] = found
        error = frames.numpy() - whole
        steps = np.abs(np.diff(error, axis=0)).mean((1, 2, 3))
        at_seams = steps[seams].mean() / max(np.delete(steps, seams).mean(), 1e-12)
        decibels = "-" if name == WHOLE else f"{-10 * np.log10(np.square(error).mean()):.1f}"
        seam = "-" if name == WHOLE else f"{at_seams:.2f}"
        rows.append(
            [name, decibels, seam, f"{found[:length].mean():.2f}", f"{found[length:].mean():.2f}", f"{seconds:.2f}"]
        )
    return rows, curves


def _cost(video_unet: VideoUNet, latents: Tensor, text: Tensor, scheduler: object, config: TuningConfig) -> str:
    """Memory and seconds of a tuning step on windows and on the whole clip."""
    words = []
    size = dict(num_frames=latents.shape[2], height=latents.shape[3], width=latents.shape[4])
    for name, each in (("on windows", config), ("on the whole clip", replace(config, context_length=None))):
        memory = estimate_memory(video_unet, each, **size).activations / 2**20
        seconds = list(_seconds(tune(video_unet, latents, text, scheduler, replace(each, steps=3))))[-1]
        words.append(f"{name} {memory:.0f} MiB of activations (estimated) and {seconds:.2f} CPU s")
        video_unet.reset()
    return f"A tuning step takes {', '.join(words)}."


def _seconds(steps: Iterator[object]) -> Iterator[float]:
    began = time.process_time()
    for _ in steps:
        yield time.process_time() - began
        began = time.process_time()


def _parse(arguments: list[str]) -> argparse.Namespace:
    made = harness.parser(__name__, __doc__)
    made.add_argument("--num-frames", type=int, default=64)
    made.add_argument("--length", type=int, default=16)
    made.add_argument("--overlap", type=int, default=4)
    made.add_argument("--curve", type=Path, help="a picture of the error of joints in each frame")
    return made.parse_args(arguments)
