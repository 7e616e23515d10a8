"""Time of a sampling step for each frame, from few frames to many, and how its memory grows by plan.

python -m benchmarks.scaling [--frames 4 8 16 24] [--latent 32] [--dtype float32] [--device cpu]
"""

from __future__ import annotations

from benchmarks import harness
from tav_core import SamplingConfig, estimate_memory, inflate


def main() -> None:
    parser = harness.parser(__doc__)
    parser.set_defaults(frames=[4, 8, 16, 24])
    args = parser.parse_args()
    cases = harness.cases(args)
    video_unet = inflate(cases[0].unet())
    runs = {str(case.frames): harness.video_sampling_step(case, video_unet) for case in cases}
    seconds = harness.interleaved(runs, args.rounds, args.device)
    rows, first = [], seconds[str(cases[0].frames)] / cases[0].frames
    for case in cases:
        each = seconds[str(case.frames)] / case.frames
        size = dict(num_frames=case.frames, height=case.latent, width=case.latent)
        above = estimate_memory(video_unet, SamplingConfig(), **size).activations / 2**20
        rows.append([str(case), f"{each:.3f}", f"{each / first:.2f}", f"{above:.0f}", f"{above / case.frames:.1f}"])
    print(harness.machine(args.device))
    head = ["case", "seconds a frame", "against the first", "planned MiB above the weights", "MiB a frame"]
    print(harness.table(head, rows))


if __name__ == "__main__":
    main()
