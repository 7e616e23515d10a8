"""What a second prompt on the same clip costs: its sampling, and none of the work that was done before.

    python -m benchmarks speed edit [--num-frames 8] [--tuning-steps 10] [--num-inference-steps 10]

The bundled model on the bundled clip; calls of the UNet, the autoencoder and the text encoder are counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from benchmarks import harness
from benchmarks.results import report, table
from tav_core import InversionConfig, SamplingConfig, TuningConfig
from tav_core.models.base import BaseModel

HEAD = ["stage", "seconds", "UNet", "frames encoded", "frames decoded", "prompts encoded"]


class Calls:
    """Counts calls of a model's parts, and the seconds of each stage."""

    def __init__(self, model: BaseModel) -> None:
        self.counts, self.rows = Counter[str](), []
        parts = (model.unet, model.vae.encoder, model.vae.decoder, model.text_encoder)
        for part, name in zip(parts, HEAD[2:], strict=True):
            part.register_forward_hook(lambda *_, name=name: self.counts.update([name]))

    def stage(self, name: str, start: Callable[..., Iterable], *arguments: object) -> None:
        """Run all steps of a stage, which `start` makes of its arguments."""
        self.counts.clear()
        began = time.process_time()
        harness.last(start(*arguments))
        seconds = time.process_time() - began
        self.rows.append([name, f"{seconds:.2f}", *(str(self.counts[part]) for part in HEAD[2:])])


def run(options: list[str]) -> str:
    parser = harness.parser(__name__, __doc__)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--tuning-steps", type=int, default=10)
    parser.add_argument("--num-inference-steps", type=int, default=10)
    args = parser.parse_args(options)
    editor = harness.bundled_editor(args.num_frames)
    calls = Calls(editor.model)
    calls.stage("tuning", editor.tune, TuningConfig(steps=args.tuning_steps))
    calls.stage("inversion", editor.invert, InversionConfig(args.num_inference_steps))
    sampling = SamplingConfig(args.num_inference_steps, guidance_scale=2.5)
    for which, colour in (("first", "yellow"), ("second", "green")):
        prompt = f"a {colour} star on a navy background"
        calls.stage(f"{which} prompt", editor.edit, prompt, sampling)
    return report(harness.machine(), table(HEAD, calls.rows))
