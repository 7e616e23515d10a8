"""Does the judge of pixels tell right frames from wrong ones? Controls on the drawn world, each kind of edit by itself.

    python -m benchmarks fidelity controls [--clips 8] [--num-frames 4] [--autoencoder FOLDER] [--reader FILE]

Every other clip shows a held-out motion. The rows are frames whose worth is known beforehand:

    true edit        what the world draws under the new words; all right
    unedited         the source; all wrong, for it lacks the edit
    another clip     the next clip's scene under the same words
    other coat       the true edit in a coat that is neither the source's nor the edit's
    other place      the same of the place
    moved by 3 px    the true edit, 3 pixels to the right
    another layout   the true edit in another layout of its place; right in an edit of the place, which leaves it free
    round trip       the true edit through --autoencoder, the most that an edit of its latents can reach

Numbers are the share of frames that are right, strict / loose. What misses its limit is listed below the table. With
--reader, two more controls: frames a quarter of a cycle out of step and the first frame frozen have a joint error over
twice the reader's own, over 16 frames of each clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from benchmarks import harness, results
from benchmarks.fidelity.scenes import KINDS, BenchClip, another, bench_clips
from bundled_model.reader import joint_error, load_reader, read
from tav_core.demo.judge import Scores, judge
from tav_core.demo.world import Scene, Words, draw_frames

AT_MOST = {"unedited": 0.0, "another clip": 0.05, "other coat": 0.05, "other place": 0.05, "moved by 3 px": 0.15}
AT_LEAST = {"true edit": 1.0, "round trip": 0.95}  # strict; a limit above holds for strict, too
JOINT_FRAMES = 16
RoundTrip = Callable[[NDArray], NDArray]
Table = dict[str, dict[str, list[Scores]]]  # by control, then by kind of edit: the scores of each clip


def controls(
    clip: BenchClip, edited: Words, true: NDArray, other: Scene, rng: np.random.Generator
) -> dict[str, NDArray]:
    """Frames of each control but the round trip, (f, h, w, 3) each.

    Arguments:
        true: the frames of the true edit.
        other: the scene of another clip.
    """
    scene, words, count = clip.scene, clip.words, len(true)

    def drawn(scene: Scene, **changes: str) -> NDArray:
        return draw_frames(scene, edited | changes, count)[0]

    coat, place = (another(kind, words[kind], edited[kind], rng=rng) for kind in ("coat", "place"))
    return {
        "true edit": true,
        "unedited": draw_frames(scene, words, count)[0],
        "another clip": drawn(other),
        "other coat": drawn(scene, coat=coat),
        "other place": drawn(scene, place=place),
        "moved by 3 px": np.pad(true, ((0, 0), (0, 0), (3, 0), (0, 0)), "edge")[:, :, :-3],
        "another layout": drawn(replace(scene, layout=int(rng.integers(1 << 31)))),
    }


def score_controls(clips: list[BenchClip], round_trip: RoundTrip | None) -> Table:
    table: Table = {}
    for index, clip in enumerate(clips):
        for kind in KINDS:
            rng, edit, truth = np.random.default_rng((clip.seed, 1)), clip.edit(kind).frames, clip.truth(kind)
            frames = controls(clip, clip.edited(kind), edit, clips[(index + 1) % len(clips)].scene, rng)
            if round_trip is not None:
                frames["round trip"] = round_trip(edit)
            for name, shown in frames.items():
                table.setdefault(name, {}).setdefault(" and ".join(kind), []).append(judge(shown, truth))
    return table


def rate(scores: list[Scores], kind: str) -> float:
    """Share of frames that are right; kind is strict or loose."""
    return float(np.mean(np.concatenate([getattr(clip, kind) for clip in scores])))


def rendered(table: Table) -> str:
    kinds = list(next(iter(table.values())))
    rows = [
        [name, *(f"{rate(row[kind], 'strict'):.2f} / {rate(row[kind], 'loose'):.2f}" for kind in kinds)]
        for name, row in table.items()
    ]
    return results.table(["frames", *kinds], rows)


def missed(table: Table) -> list[str]:
    """Limits that strict rates miss."""
    lines = []
    for name, row in table.items():
        for kind, scores in row.items():
            strict = rate(scores, "strict")
            if not AT_LEAST.get(name, 0.0) <= strict <= AT_MOST.get(name, 1.0):
                lines.append(f"{name}, {kind}: strict {strict:.2f}")
    return lines


def psnr_line(row: Mapping[str, list[Scores]]) -> str:
    """PSNR of a row, the mean over frames of all kinds of edit."""
    scores = [clip for clips in row.values() for clip in clips]
    figure, rest = (np.mean(np.concatenate([getattr(s, k) for s in scores])) for k in ("figure_psnr", "rest_psnr"))
    return f"{figure:.1f} dB in the figure, {rest:.1f} elsewhere"


def load_round_trip(folder: Path) -> RoundTrip:
    """Encoding and decoding of frames (f, h, w, 3) in [0, 1] by a diffusers AutoencoderKL."""
    vae = AutoencoderKL.from_pretrained(folder).eval()

    @torch.no_grad()
    def round_trip(frames: NDArray) -> NDArray:
        images = torch.from_numpy(frames).permute(0, 3, 1, 2) * 2 - 1
        decoded = vae.decode(vae.encode(images).latent_dist.mode()).sample
        return (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()

    return round_trip


def joint_controls(file: Path, clips: list[BenchClip]) -> dict[str, float]:
    """Joint error in pixels, the mean over frames: the reader's own, and of the two controls."""
    reader = load_reader(file)
    errors: dict[str, list[NDArray]] = {}
    for clip in clips:
        true, late = clip.source, replace(clip.scene, phase=clip.scene.phase + 0.25)
        shown = {
            "true edit": true.frames,
            "a quarter out of step": draw_frames(late, clip.words, clip.num_frames)[0],
            "first frame frozen": np.repeat(true.frames[:1], clip.num_frames, axis=0),
        }
        for name, frames in shown.items():
            errors.setdefault(name, []).append(joint_error(read(reader, frames)[1], true.joints))
    return {name: float(np.mean(found)) for name, found in errors.items()}


def run(arguments: list[str]) -> str:
    """Measure the controls."""
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=4, help="of each clip")
    parser.add_argument("--autoencoder", type=Path, help="diffusers AutoencoderKL")
    parser.add_argument("--reader", type=Path, help="reader.safetensors, as bundled_model.train_reader writes it")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table = score_controls(
        bench_clips(args.clips, args.num_frames), load_round_trip(args.autoencoder) if args.autoencoder else None
    )
    notes, lines = [], missed(table)
    if args.autoencoder:
        notes.append(f"Round trip: {psnr_line(table['round trip'])}.")
    if args.reader:
        joints = joint_controls(args.reader, bench_clips(args.clips, JOINT_FRAMES))
        notes += [f"Joint error, {name}: {error:.1f} px" for name, error in joints.items()]
        own = joints.pop("true edit")
        lines += [f"{name}: joint error {error / own:.1f} x" for name, error in joints.items() if error <= 2 * own]
    notes.append("Missed: " + "; ".join(lines) if lines else "All limits are met.")
    return results.report(harness.machine(), rendered(table), *notes)
