"""What the store costs: the share of a tuning that goes into keeping states, and the seconds of a full-size model.

python -m benchmarks.store                      the bundled model on the bundled clip
python -m benchmarks.store --full-size          and files of Stable Diffusion 1.5's size, made-up weights
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from tav_core import ClipEditor, Store, TuningConfig, inflate, load_model, read_video
from tav_core.models.base import ASSETS
from tav_core.store.keys import result_key
from tav_core.tuning.state import TuningState

SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64}
EPSILON = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class TimedStore(Store):
    """Sums up the seconds that keeping takes."""

    seconds, times = 0.0, 0

    def _keep_tuning(self, *arguments: object) -> None:
        spent, _ = timed(lambda: super(TimedStore, self)._keep_tuning(*arguments))
        self.seconds, self.times = self.seconds + spent, self.times + 1


def timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.monotonic()
    result = work()
    return time.monotonic() - began, result


def bundled(folder: Path, steps: int, frames: int) -> None:
    clip = read_video(ASSETS / "demo-clip.mp4", num_frames=frames)
    store = TimedStore(folder)
    editor = ClipEditor(load_model(), clip.frames, "a clip", store=store)
    config = TuningConfig(steps=steps)
    whole, _ = timed(lambda: list(editor.tune(config)))
    print(
        f"bundled model, {frames} frames, {steps} steps: {whole:.1f} s, {store.seconds:.2f} s of it for keeping "
        f"{store.times} times: {store.seconds / whole:.2%}"
    )
    again, left = timed(lambda: list(editor.tune(config)))
    print(f"finished tuning found and loaded in {again:.2f} s, {len(left)} steps run")


def full_size(folder: Path) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15)
    unet = unet.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.fill_(0.01)
    video_unet = inflate(unet)
    latents, text = torch.zeros(1, 4, 16, 64, 64), torch.zeros(1, 77, 768)
    config = TuningConfig()
    size = sum(tensor.nbytes for tensor in video_unet.state_dict().values()) / 1e9
    for which in ("first", "later"):
        seconds, key = timed(lambda: result_key(video_unet, latents, text, EPSILON, config))
        print(f"key of a model of {size:.1f} GB, {which}: {seconds:.2f} s")
    state, store = TuningState(video_unet, config), Store(folder)
    whole = state.state_dict()
    for kind, tensors in (("run", whole), ("tuned", state.weights())):
        write_and_read(store, kind, str(key), tensors)


def write_and_read(store: Store, kind: str, key: str, tensors: dict[str, Tensor]) -> None:
    size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    with store._locked():
        written, _ = timed(lambda: store._put(kind, key, tensors, {}))
        read, _ = timed(lambda: store._get(kind, key))
    print(f"{kind} entry of {size:.0f} MB: written and flushed in {written:.2f} s, read and checked in {read:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--full-size", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundled(Path(folder) / "bundled", args.steps, args.num_frames)
        if args.full_size:
            full_size(Path(folder) / "full-size")


if __name__ == "__main__":
    main()
