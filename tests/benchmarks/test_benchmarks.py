"""The benchmarks' own measures, on pictures and models whose figures are known."""

import importlib
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import cards, harness, inversion
from benchmarks.clips import random_clip
from benchmarks.fidelity import drawn_mask
from benchmarks.harness import CHECKPOINTING, SAMPLING, TUNING
from benchmarks.published import Published
from benchmarks.unnamed import bystander, draw_with, overlap, prediction_error
from tav_core import TuningConfig
from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.editor import ClipEditor
from tav_core.models.base import load_model


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_a_bystander_is_found_where_it_is_and_only_there(seed):
    scenes = random_clip(seed, 6)
    second = bystander(seed, scenes)
    for scene in scenes:
        background = scene.background
        assert overlap(draw_with(second, scene), second, background) > 0.7  # but for anti-aliased edges
        assert overlap(world.draw_background(background), second, background) == 0


def test_the_judge_reads_the_named_object_beside_a_bystander():
    scenes = random_clip(1003, 6)
    second = bystander(1003, scenes)
    assert np.mean([judge.read(draw_with(second, scene)).shows(scene) for scene in scenes]) == 1


def test_the_model_errs_less_under_a_clips_own_caption_and_without_a_bystander():
    scenes = random_clip(1003, 2)
    second = bystander(1003, scenes)
    plain = torch.from_numpy(np.stack([world.draw(scene)[0] for scene in scenes]))
    both = torch.from_numpy(np.stack([draw_with(second, scene) for scene in scenes]))
    editor, caption = ClipEditor(load_model(), plain, scenes[0].caption), scenes[0].caption
    own = prediction_error(editor, plain, caption)
    assert own == prediction_error(editor, plain, caption)
    other = next(name for name in world.BACKGROUNDS if name != scenes[0].background)
    assert own < prediction_error(editor, plain, scenes[0].edited(background=other).caption)
    assert own < prediction_error(editor, both, caption)


def test_an_artists_mask_covers_the_object_before_and_after_and_all_of_a_ground_that_changes():
    scenes = random_clip(1003, 3)
    mask = drawn_mask(scenes, {"shape": "ring"}).numpy()
    for frame, scene in zip(mask, scenes, strict=True):
        for shown in (scene, scene.edited(shape="ring")):
            assert frame[world.draw(shown)[1] > 0].all()
    assert 0 < mask.mean() < 0.5
    assert drawn_mask(scenes, {"shape": "ring", "background": "grey"}).all()


@pytest.mark.parametrize(
    ("part", "options", "rows"),
    [
        ("step", "--tiny --latent 16 --frames 2 --rounds 1", 4),
        ("scaling", "--tiny --latent 16 --frames 1 2 --rounds 1", 2),
        ("edit", "--num-frames 2 --tuning-steps 1 --num-inference-steps 2", 4),
        ("cold", "--tiny --rounds 1", 3),
    ],
)
def test_a_benchmark_runs(
    part: str, options: str, rows: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [part, *options.split()])
    try:
        importlib.import_module(f"benchmarks.{part}").main()
    finally:
        harness.drawn_weights.cache_clear()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + rows and len({line.count("|") for line in table}) == 1


@pytest.mark.soak
@pytest.mark.parametrize(
    "part", ["edits --ablation-clips 1", "fidelity --all-variants 1", "unnamed --variants no~tuning", "inversion"]
)
def test_a_benchmark_of_edits_runs(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = (word.replace("~", " ") for word in part.split())
    small = dict(clips=1, num_frames=2, tuning_steps=1, num_inference_steps=5, processes=1, output=tmp_path)
    words = [word for key, value in small.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    monkeypatch.setattr(sys, "argv", [name, *options, *words])
    importlib.import_module(f"benchmarks.{name}").main()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) > 2 and len({line.count("|") for line in table}) == 1


def test_a_step_runs_under_a_cap_that_it_fits_and_not_under_less():
    case = harness.Case(frames=2, latent=16, tiny=True)
    limit, run = cards.under([2**20, 2**30, 2**31], case, TuningConfig(), rounds=1)
    assert limit == 2**30 and 2**20 < run.peak < 2**30 and run.seconds > 0 and run.product > 0


def test_rising_caps_are_tried_in_one_process_until_one_is_enough(monkeypatch: pytest.MonkeyPatch):
    """As on a GPU, where a step that ran out of memory leaves none of it taken."""
    room, made = [], []
    monkeypatch.setattr(cards, "cap", lambda limit, device: room.append(limit) or harness.resident())

    def step() -> None:
        made.append(room[-1])
        if room[-1] == 2 and len(made) > 3:
            raise torch.OutOfMemoryError("injected")
        if room[-1] == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(harness, "video_step", lambda case, config: (lambda: None) if case.tiny else step)
    limit, run = cards._run([1, 2, 3, 4], harness.Case(), TuningConfig(), rounds=2)
    assert (limit, room, made) == (3, [1, 2, 3], [1, 2, 2, 2, 3, 3, 3]) and run.seconds >= 0
    monkeypatch.setattr(harness, "video_step", lambda case, config: (lambda: None) if case.tiny else [].pop)
    with pytest.raises(IndexError):
        cards._run([1], harness.Case(), TuningConfig(), rounds=1)


def test_a_step_is_timed_in_a_process_that_ran_out_of_nothing(monkeypatch: pytest.MonkeyPatch):
    """On a GPU, whose convolutions keep to the kernels that they found when memory was short."""
    tried = []

    def run(limits: list[float], *_: object) -> tuple[float, str] | None:
        tried.append(limits)
        return next(((limit, f"try {len(tried)}") for limit in limits if limit >= 3), None)

    monkeypatch.setattr(cards, "_run", run)
    monkeypatch.setattr(cards, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))
    case = harness.Case(device="cuda:0")
    assert cards.under([1, 2, 3, 4], case, TuningConfig(), 1) == (3, "try 2")
    assert cards.under([3, 4], case, TuningConfig(), 1) == (3, "try 3")
    assert cards.under([1, 2], case, TuningConfig(), 1) is None
    assert tried == [[1, 2, 3, 4], [3, 4], [3, 4], [1, 2]]


def test_the_cap_of_a_gpu_is_its_share(monkeypatch: pytest.MonkeyPatch):
    shares = []
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.append(share))
    cards.cap(8 * 2**30, "cuda")
    cards.cap(90 * 2**30, "cuda")
    assert shares == [0.1, 1.0]


def test_the_smallest_card_that_a_step_runs_on_is_named(monkeypatch: pytest.MonkeyPatch):
    run = cards.Run(peak=5 * 2**30, seconds=2.0, product=1e12)
    monkeypatch.setattr(cards, "under", lambda limits, *_: next(((x, run) for x in limits if x >= 7 * 2**30), None))
    case = harness.Case(frames=2, latent=16, tiny=True)
    cells = cards.row(case, "tuning", TuningConfig(), [12, 6, 8], rounds=1)
    assert cells[2:4] == ["8", "5.00"] and cells[5] == "2.00"
    assert cards.row(case, "tuning", TuningConfig(), [4, 6], rounds=1)[2] == "above 6"


def test_an_inversion_that_is_refined_comes_back_from_every_share():
    options = Namespace(
        num_frames=1, model="demo", store=None, tuning_steps=1, num_inference_steps=5, refinements=[0, 10]
    )
    bound, *records = inversion.measure_clip(1003, options)
    assert bound["variant"] == "round trip" and bound["psnr"] > 34
    assert len(records) == 2 * 2 * len(inversion.SHARES)
    for record in records:
        refined = "refinements 10" in record["variant"]
        assert (record["predictions"] > 1) == refined
        assert (record["below"] < 0.5) == refined, record
        assert record["psnr"] == pytest.approx(bound["psnr"] - record["below"])


STAND_IN = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q = nn.Linear(4, 4)

    def forward(self, sample):
        return self.to_q(sample.transpose(1, -1)).transpose(1, -1)


class UNet3DConditionModel(nn.Module):
    def __init__(self, **config):
        super().__init__()
        self.down, self.up = nn.ModuleDict({"attn1": Part()}), nn.ModuleDict({"attn2": Part()})
        self.frozen, self.checkpointing = nn.Linear(4, 4), False

    def enable_gradient_checkpointing(self):
        self.checkpointing = True

    def forward(self, sample, timestep, encoder_hidden_states):
        assert sample.shape[2:] == (3, 8, 8) and len(sample) == len(encoder_hidden_states)
        down = self.down["attn1"]
        sample = checkpoint(down, sample, use_reentrant=True) if self.checkpointing else down(sample)
        print("noise on the way out")
        return type("Output", (), {"sample": self.up["attn2"](sample)})
"""


@pytest.mark.parametrize(
    ("kind", "trained"),
    [(SAMPLING, 0), (TUNING, 4), (f"{CHECKPOINTING}, as published", 2), (f"{CHECKPOINTING}, repaired", 4)],
)
def test_the_published_worker_says_what_it_took_and_what_it_trained(tmp_path: Path, kind: str, trained: int) -> None:
    package = tmp_path / "tuneavideo" / "models"
    package.mkdir(parents=True)
    (package / "unet.py").write_text(STAND_IN)
    worker = Published(str(tmp_path), sys.executable, harness.Case(frames=3, latent=8, tiny=True), kind)
    try:
        seconds = worker()
    finally:
        worker.close()
    assert 0 < seconds == worker.last["seconds"]
    assert (worker.last["trained"], worker.last["trainable"]) == (trained, 4)
    assert worker.last["peak"] >= worker.resident > 2**24


def test_a_published_implementation_that_cannot_be_imported_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with code 1"):
        Published(str(tmp_path), sys.executable, harness.Case(tiny=True), TUNING)


def test_seconds_taken_elsewhere_count_in_place_of_those_here() -> None:
    taken = iter([9.0, 3.0, 1.0, 2.0])
    seconds = harness.interleaved({"there": lambda: next(taken), "here": lambda: None}, 3, "cpu")
    assert seconds["there"] == 2.0 and seconds["here"] < 1
