"""Time of a sampling step for each frame, from few frames to many, and how its estimated memory grows.

python -m benchmarks speed scaling [--frames 4 8 16 24] [--latent 32] [--dtype float32] [--device cpu] [--rounds 1]
"""

from __future__ import annotations

from benchmarks import harness
from benchmarks.results import report, table
from benchmarks.speed import unet
from tav_core import SamplingConfig, inflate

HEAD = ["case", "seconds a frame", "against the first", "estimated MiB above the weights", "MiB a frame"]


def run(options: list[str]) -> str:
    parser = unet.parser(__name__, __doc__)
    parser.set_defaults(frames=[4, 8, 16, 24], rounds=1)
    args = parser.parse_args(options)
    cases = unet.cases(args)
    video_unet = inflate(cases[0].unet())
    runs = {str(case.frames): unet.video_sampling_step(case, video_unet) for case in cases}
    seconds = harness.interleaved(runs, args.rounds, args.device)
    rows, first = [], seconds[str(cases[0].frames)] / cases[0].frames
    for case in cases:
        each = seconds[str(case.frames)] / case.frames
        above = case.estimate(SamplingConfig()).activations / 2**20
        rows.append([str(case), f"{each:.3f}", f"{each / first:.2f}", f"{above:.0f}", f"{above / case.frames:.1f}"])
    return report(harness.machine(args.device), table(HEAD, rows))
