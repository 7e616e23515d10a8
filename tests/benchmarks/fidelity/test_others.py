"""Edits by others, on a clip of two frames: stock pipelines, and the worker of the published code on a stand-in."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.fidelity import others, stock
from benchmarks.fidelity.curve import SECONDS
from benchmarks.fidelity.published import published_edits
from benchmarks.fidelity.scenes import BenchClip, bench_clips
from tav_core import ClipEditor, InversionConfig, SamplingConfig, load_control, load_model
from tav_core.demo.world.hints import HINTS

STAND_IN = """
import torch
from diffusers import UNet2DConditionModel


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_out = torch.nn.Linear(4, 4), torch.nn.ModuleList([torch.nn.Linear(4, 4)])


class UNet3DConditionModel(UNet2DConditionModel):
    # Frames as a batch, and a temporal attention that is there and does nothing.
    def __init__(self, **config):
        super().__init__(**config)
        self.attn_temp = Attention()

    @classmethod
    def from_config(cls, config):
        blocks = ("down_block_types", "up_block_types")
        assert all(kind.endswith("3D") for name in blocks for kind in config[name])
        images = {name: [kind.replace("3D", "2D") for kind in config[name]] for name in blocks}
        return cls(**config | images | {"mid_block_type": config["mid_block_type"].replace("3D", "2D")})

    def forward(self, sample, timestep, encoder_hidden_states):
        clips, _, frames = sample.shape[:3]
        images = sample.transpose(1, 2).flatten(0, 1)
        times = torch.as_tensor(timestep).expand(clips).repeat_interleave(frames)
        text = encoder_hidden_states.repeat_interleave(frames, 0)
        output = super().forward(images, times, text).sample
        return type("Output", (), {"sample": output.unflatten(0, (clips, frames)).transpose(1, 2)})
"""


@pytest.fixture
def clip() -> BenchClip:
    (clip,) = bench_clips(1, 2)
    return clip


@pytest.mark.slow
def test_the_worker_edits_as_we_do(tmp_path: Path, clip: BenchClip) -> None:
    """Its loops are ours: the same latents from a UNet that is applied to each frame by itself."""
    package = tmp_path / "tuneavideo" / "models"
    package.mkdir(parents=True)
    (package / "unet.py").write_text(STAND_IN)
    frames = torch.from_numpy(clip.source.frames)
    editor = ClipEditor(load_model(), frames, clip.caption, attention="per_frame", group_norm="frame")
    prompt = "a blue person walks in the park"
    where = (str(tmp_path), sys.executable)
    found, seconds = published_edits(where, editor, {"coat": prompt}, [0, 2], 1e-2, steps=3, guidance_scale=2.0)
    for _ in editor.invert(InversionConfig(num_inference_steps=3)):
        pass
    *_, ours = editor.edit(prompt, SamplingConfig(num_inference_steps=3, guidance_scale=2.0))
    torch.testing.assert_close(found["0/coat"], ours.latents, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found["2/coat"], found["0/coat"], atol=1e-2)  # two updates act
    assert seconds["2"]["tune"] > seconds["0"]["tune"] == 0 and min(seconds["2"].values()) > 0


def test_a_failure_of_the_published_code_is_told(tmp_path: Path, clip: BenchClip) -> None:
    editor = ClipEditor(load_model(), torch.from_numpy(clip.source.frames), clip.caption)
    with pytest.raises(RuntimeError, match="ended with code 1"):
        published_edits((str(tmp_path), sys.executable), editor, {}, [0], 1e-2)


@pytest.mark.slow
def test_text_to_video_zero_attends_to_the_first_frame_and_leaves_the_model_as_it_was(clip: BenchClip) -> None:
    model, control = load_model(), load_control("demo-depth")
    before = [type(found) for network in (model.unet, control) for found in network.attn_processors.values()]
    hints = np.repeat(HINTS["depth"](clip.source)[:1], 2, axis=0)  # of a clip that stands still
    options = dict(guidance_scale=2.0, steps=2, seed=0)
    frames = stock.text_to_video_zero(model, control, hints, clip.caption, **options)
    assert frames.shape == clip.source.frames.shape
    np.testing.assert_allclose(frames[0], frames[1], atol=1e-4)
    after = [type(found) for network in (model.unet, control) for found in network.attn_processors.values()]
    assert before == after
    moving = stock.text_to_video_zero(model, control, HINTS["depth"](clip.source)[::-1].copy(), clip.caption, **options)
    assert np.abs(moving[1] - frames[0]).max() > 0.01  # the same hint, another first frame


@pytest.mark.slow
def test_image_to_image_keeps_more_at_a_lower_strength(clip: BenchClip) -> None:
    def error(strength: float) -> float:
        options = dict(guidance_scale=1.5, steps=4, seed=0)
        frames = stock.image_to_image(load_model(), clip.source.frames, clip.caption, strength=strength, **options)
        return float(np.abs(frames - clip.source.frames).mean())

    assert error(0.25) < error(1.0)


@dataclass(frozen=True)
class Perfect:
    """Somebody who always makes the true edit."""

    lines = ("perfect",)

    def digest(self) -> str:
        return "0"

    def edits(self, clip: BenchClip):
        for kind in others.EDITED:
            yield "perfect", kind, clip.edit(kind).frames, (10.0, 2.0, 3.0)


def test_cells_are_kept_and_their_seconds_add_up(tmp_path: Path, clip: BenchClip) -> None:
    cells = list(others.fill(Perfect(), clip, None, tmp_path))
    assert [cell["strict"] for cell in cells] == [1.0, 1.0, 1.0]
    assert [cells[0][name] for name in SECONDS] == [10.0, 2.0, 3.0]
    assert others._four(cells) == 24
    assert list(others.fill(Perfect(), clip, None, tmp_path)) == []
    assert len((tmp_path / "others-perfect.jsonl").read_text().splitlines()) == 3


def test_another_rate_is_another_contender() -> None:
    where = ("", "")
    assert others.PublishedCode(where).digest() != others.PublishedCode(where, rate=3e-5).digest()
    assert others.PublishedCode(where, pauses=(7,)).lines == ["published code, 7 steps at 0.0005"]
