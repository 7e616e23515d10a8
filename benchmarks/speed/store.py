"""What the store costs: the share of a tuning that goes into saving states, and the seconds for a full-size model.

python -m benchmarks speed store                      the bundled model on the bundled clip
python -m benchmarks speed store --full-size          and files of Stable Diffusion 1.5's size, made-up weights
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from torch import Tensor

from benchmarks import harness
from benchmarks.harness import seconds_of
from benchmarks.results import report, table
from benchmarks.speed import unet
from tav_core import Store, TuningConfig, inflate
from tav_core.store.keys import result_key
from tav_core.tuning.state import TuningState

HEAD = ["work", "seconds", "share of the tuning"]


class TimedStore(Store):
    """Sums up the seconds that saving states takes."""

    seconds, times = 0.0, 0

    def _save_tuning(self, *arguments: object) -> None:
        self.seconds += seconds_of(partial(super()._save_tuning, *arguments))
        self.times += 1


def bundled(folder: Path, steps: int, frames: int) -> list[list[str]]:
    """Rows for the bundled model: a tuning, what the store takes of it, and the same tuning found again."""
    store, config = TimedStore(folder), TuningConfig(steps=steps)
    editor = harness.bundled_editor(frames, store)
    whole, again = (seconds_of(lambda: harness.last(editor.tune(config))) for _ in range(2))
    return [
        [f"tuning of the bundled model, {frames} frames, {steps} steps", f"{whole:.1f}", ""],
        [f"its states saved {store.times} times", f"{store.seconds:.2f}", f"{store.seconds / whole:.2%}"],
        ["the finished tuning found and loaded", f"{again:.2f}", ""],
    ]


def full_size(folder: Path) -> list[list[str]]:
    """Rows for Stable Diffusion 1.5's size: keys and entries."""
    case = unet.Case(frames=16, latent=64)
    video_unet, config = inflate(case.unet()), TuningConfig()
    inputs = case.inputs(video_unet.unet)
    size = sum(tensor.nbytes for tensor in video_unet.state_dict().values()) / 1e9
    rows = []
    for which in ("first", "later"):
        key = partial(result_key, video_unet, *inputs, unet.SCHEDULER, config)
        rows.append([f"key of a model of {size:.1f} GB, {which}", f"{seconds_of(key):.2f}", ""])
    state, store = TuningState(video_unet, config), Store(folder)
    for kind, tensors in (("run", state.state_dict()), ("tuned", state.weights())):
        rows += write_and_read(store, kind, key(), tensors)
    return rows


def write_and_read(store: Store, kind: str, key: str, tensors: dict[str, Tensor]) -> list[list[str]]:
    size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    with store._locked():
        written = seconds_of(lambda: store._put(kind, key, tensors, {}))
        read = seconds_of(lambda: store._get(kind, key))
    entry = f"{kind} entry of {size:.0f} MB"
    return [[f"{entry}: written and flushed", f"{written:.2f}", ""], [f"{entry}: read and checked", f"{read:.2f}", ""]]


def run(options: list[str]) -> str:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--full-size", action="store_true")
    args = parser.parse_args(options)
    with tempfile.TemporaryDirectory() as folder:
        rows = bundled(Path(folder) / "bundled", args.steps, args.num_frames)
        rows += full_size(Path(folder) / "full-size") if args.full_size else []
    return report(harness.machine(), table(HEAD, rows))
