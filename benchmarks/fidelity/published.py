"""Edits of a clip by the published implementation, in an interpreter of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from tav_core import ClipEditor
from tav_core.atomic import write_text
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.models.base import ASSETS, BaseModel
from tav_core.models.codec import encode_prompts

WORKER = Path(__file__).with_name("published_worker.py")
STEPS = 50  # of its inversion and of its sampling, as in its configurations


def published_edits(
    where: tuple[str, str],
    editor: ClipEditor,
    prompts: Mapping[str, str],
    pauses: Iterable[int],
    learning_rate: float,
    *,
    steps: int = STEPS,
    guidance_scale: float = 1.5,
    seed: int = 0,
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Tune with the published code, and edit at each pause, with the bundled model's weights.

    Arguments:
        where: a checkout of github.com/showlab/Tune-A-Video, and a Python with diffusers 0.11.1.
        editor: of the clip; its latents and its text encoder are used.
        prompts: by name.
        pauses: numbers of updates after which the clip is inverted and edited.
        steps: of inversion and of sampling.

    Returns:
        Latents (1, c, f, h, w) by "PAUSE/NAME", and for each pause the seconds of the processor of "tune", "invert"
        and each name.

    Raises:
        RuntimeError: the published code failed; its messages stand on stderr.
    """
    assert editor.model is not None
    weights = ASSETS / "demo-model" / "unet" / "diffusion_pytorch_model.safetensors"
    config = json.loads(weights.with_name("config.json").read_text())
    request = dict(
        config={name: value for name, value in config.items() if not name.startswith("_")},
        weights=str(weights),
        scheduler=_scheduler(editor.schedule, editor.model.scheduler.config.steps_offset),
        pauses=sorted(pauses),
        learning_rate=learning_rate,
        inversion_steps=steps,
        sampling_steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
    )
    texts = {"caption": str(editor.source_prompt), "empty": "", **prompts}
    tensors = {name: _encoded(editor.model, text) for name, text in texts.items()} | {"latents": editor.latents}
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder) / "request.json", json.dumps(request))
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(folder) / "tensors.safetensors")
        done = subprocess.run([where[1], str(WORKER), where[0], folder], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"The published implementation ended with code {done.returncode}; see above.")
        return load_file(Path(folder) / "answer.safetensors"), json.loads(done.stdout)


def _encoded(model: BaseModel, text: str) -> Tensor:
    embedding = encode_prompts(model, [text])
    assert isinstance(embedding, Tensor)
    return embedding


def _scheduler(schedule: NoiseSchedule, steps_offset: int) -> dict[str, Any]:
    """Betas whose running product is the schedule's noise levels, zero terminal SNR too."""
    levels = schedule.alphas_cumprod
    before = levels.roll(1)
    before[0] = 1
    return dict(
        betas=(1 - levels / before).tolist(), prediction_type=schedule.prediction_type, steps_offset=steps_offset
    )
