"""What a second prompt on the same clip costs: its sampling, and nothing that was done before.

python -m benchmarks.edit [--num-frames 8] [--tuning-steps 10] [--num-inference-steps 10]

The bundled model on the bundled clip; calls of the UNet, the autoencoder and the text encoder are counted.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from benchmarks import harness
from tav_core import ClipEditor, InversionConfig, SamplingConfig, TuningConfig, load_model, read_video
from tav_core.models.base import ASSETS

HEAD = ["stage", "seconds", "UNet", "frames encoded", "frames decoded", "prompts encoded"]


class Calls:
    """Counts calls of a model's parts, and the seconds of each stage."""

    def __init__(self) -> None:
        self.model, self.counts, self.rows = load_model(), Counter[str](), []
        self.model.text_encoder.register_forward_hook(lambda *_: self.counts.update(["prompts encoded"]))
        self.model.unet.register_forward_hook(lambda *_: self.counts.update(["UNet"]))
        for part, name in ((self.model.vae.encoder, "frames encoded"), (self.model.vae.decoder, "frames decoded")):
            part.register_forward_hook(lambda *_, name=name: self.counts.update([name]))

    def stage(self, name: str, steps: Callable[[], Iterable]) -> None:
        self.counts.clear()
        began = time.process_time()
        for _ in steps():
            pass
        seconds = time.process_time() - began
        self.rows.append([name, f"{seconds:.2f}", *(str(self.counts[part]) for part in HEAD[2:])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--tuning-steps", type=int, default=10)
    parser.add_argument("--num-inference-steps", type=int, default=10)
    args = parser.parse_args()
    clip = read_video(ASSETS / "demo-clip.mp4", num_frames=args.num_frames)
    calls = Calls()
    editor = ClipEditor(calls.model, clip.frames, "a pink star on a navy background")
    calls.stage("tuning", lambda: editor.tune(TuningConfig(steps=args.tuning_steps)))
    calls.stage("inversion", lambda: editor.invert(InversionConfig(args.num_inference_steps)))
    for which, colour in (("first", "yellow"), ("second", "green")):
        prompt = f"a {colour} star on a navy background"
        sampling = SamplingConfig(args.num_inference_steps, guidance_scale=2.5)
        calls.stage(f"{which} prompt", partial(editor.edit, prompt, sampling))
    print(harness.machine())
    print(harness.table(HEAD, calls.rows))


if __name__ == "__main__":
    main()
