"""Peak memory of a sampling step and of a tuning step above what the weights take, each in a process of its own.

python -m benchmarks.memory [--frames 4] [--latent 32] [--dtype float32] [--device cpu]
"""

from __future__ import annotations

from benchmarks import harness

RUNS = {
    "sampling, image UNet": (harness.stock_sampling_step,),
    "sampling, video UNet": (harness.video_sampling_step,),
    "tuning, image UNet": (harness.stock_tuning_step,),
    "tuning, video UNet": (harness.video_tuning_step,),
    "tuning, selective checkpointing, video UNet": (harness.video_tuning_step, "selective"),
    "tuning, checkpointing, image UNet": (harness.stock_tuning_step, True),
    "tuning, checkpointing, video UNet": (harness.video_tuning_step, True),
}


def main() -> None:
    args = harness.parser(__doc__).parse_args()
    rows = []
    for case in harness.cases(args):
        for name, (build, *options) in RUNS.items():
            before, peak = harness.peak_memory(build, case, *options)
            rows.append([str(case), name, *(f"{size / 2**30:.2f}" for size in (before, peak, peak - before))])
    print(harness.machine())
    print(harness.table(["case", "step", "weights, GiB", "peak, GiB", "above, GiB"], rows))


if __name__ == "__main__":
    main()
