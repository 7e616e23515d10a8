"""What `tav_core.plan` predicts against what was measured, memory and time of a step.

python -m benchmarks.plan [--frames 2 4] [--latent 16] [--dtype float32] [--device cpu]

Memory is compared above the weights, and as the whole peak of the process, where what was resident before the first
step counts for the weights. Time is predicted from rates that are measured before each case; --rounds 0 leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import harness
from benchmarks.harness import Case, Config
from tav_core import MemoryEstimate, inflate, measure_rates, plan

HEAD = [
    "case", "step", "above weights, MiB: planned", "measured", "error", "peak, MiB: planned", "measured", "error",
    "seconds: planned", "measured", "error",
]  # fmt: skip


def predicted(case: Case, config: Config) -> MemoryEstimate:
    """By the planner, which reads no weights: there are none, and nothing lies on the case's device."""
    size = dict(num_frames=case.frames, height=case.latent, width=case.latent)
    return plan(inflate(harness.shape(case.tiny).to_empty(device="cpu")), config, **size, dtype=case.dtype)


def memory_cells(planned: MemoryEstimate, measured: tuple[float, float]) -> list[str]:
    before, peak = measured
    above = planned.moments + planned.activations
    pairs = (above, peak - before), (above + before, peak)
    return [cell for ours, real in pairs for cell in compared(ours / 2**20, real / 2**20, ".0f")]


def time_cells(case: Case, planned: MemoryEstimate, step: Callable[[], None], rounds: int) -> list[str]:
    """After a step that is not timed. A busy machine changes its pace: the rates are measured in the same minute."""
    step()
    rates = measure_rates(case.device, case.dtype)
    return compared(planned.seconds(rates), harness.interleaved({"": step}, rounds, case.device, warm=True)[""], ".2f")


def compared(planned: float, measured: float, form: str) -> list[str]:
    return [f"{planned:{form}}", f"{measured:{form}}", f"{planned / measured - 1:+.1%}"]


def main() -> None:
    parser = harness.parser(__doc__)
    parser.set_defaults(frames=[2, 4], latent=16, rounds=2)
    args = parser.parse_args()
    rows = []
    for case in harness.cases(args):
        for name, config in harness.KINDS.items():
            planned = predicted(case, config)
            memory = harness.peak_memory(harness.video_step, case, config)
            step = harness.video_step(case, config)
            times = time_cells(case, planned, step, args.rounds) if args.rounds else [""] * 3
            rows.append([str(case), name, *memory_cells(planned, memory), *times])
    print(harness.machine(args.device))
    print(harness.table(HEAD, rows))


if __name__ == "__main__":
    main()
