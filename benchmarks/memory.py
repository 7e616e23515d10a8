"""Peak memory of a sampling step and of a tuning step above what the weights take, each in a process of its own.

python -m benchmarks.memory [--frames 4] [--latent 32] [--dtype float32] [--device cpu]
"""

from __future__ import annotations

from itertools import product

from benchmarks import harness

BUILDERS = {"image UNet": harness.image_step, "video UNet": harness.video_step}


def main() -> None:
    args = harness.parser(__doc__).parse_args()
    rows = []
    for case in harness.cases(args):
        for (kind, config), (unet, build) in product(harness.KINDS.items(), BUILDERS.items()):
            if kind == harness.SELECTIVE and unet == "image UNet":  # which knows none
                continue
            before, peak = harness.peak_memory(build, case, config)
            sizes = (f"{size / 2**30:.2f}" for size in (before, peak, peak - before))
            rows.append([str(case), f"{kind}, {unet}", *sizes])
    print(harness.machine(args.device))
    print(harness.table(["case", "step", "weights, GiB", "peak, GiB", "above, GiB"], rows))


if __name__ == "__main__":
    main()
