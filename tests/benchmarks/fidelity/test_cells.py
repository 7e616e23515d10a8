"""Results of edits by cell, their intervals and their tables, on clips of two frames and tunings of one step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.fidelity.cells import Cell, Cells, fill, measure
from benchmarks.fidelity.editing import tables
from benchmarks.fidelity.intervals import mean_over_clips, paired_difference
from benchmarks.fidelity.scenes import DEVELOPMENT, KINDS, TEST, bench_clips
from benchmarks.fidelity.ways import WAYS, Edited, Way
from tav_core import InversionConfig, SamplingConfig, TuningConfig
from tav_core.models.base import DEMO_MODEL

SHORT = Way(
    tuning=TuningConfig(steps=1, learning_rate=1e-3),
    sampling=SamplingConfig(num_inference_steps=2, guidance_scale=2.0),
    inversion=InversionConfig(num_inference_steps=2),
)
COAT, STYLE = ("coat",), ("style",)


def filled(folder: Path, way: Way = SHORT, **options: object) -> list[Cell]:
    return list(fill("short", bench_clips(1, 2), DEMO_MODEL, None, way=way, folder=folder, **options))


@pytest.mark.slow
def test_a_run_goes_on_where_another_stopped(tmp_path: Path) -> None:
    first = filled(tmp_path, kinds=[COAT])
    assert [cell["kind"] for cell in first] == ["coat"] and first[0]["clip"] == TEST
    assert [cell["kind"] for cell in filled(tmp_path, kinds=[COAT, STYLE])] == ["style"]
    assert filled(tmp_path, kinds=[COAT, STYLE]) == []
    assert [cell["seed"] for cell in filled(tmp_path, kinds=[COAT], seed=1)] == [1]
    kept = list(Cells("short", SHORT, DEMO_MODEL, 2, tmp_path))
    assert {(cell["kind"], cell["seed"]) for cell in kept} == {("coat", 0), ("style", 0), ("coat", 1)}


@pytest.mark.slow
def test_other_settings_are_measured_anew(tmp_path: Path) -> None:
    filled(tmp_path, kinds=[COAT])
    changed = replace(SHORT, sampling=replace(SHORT.sampling, guidance_scale=3.0))
    assert not list(Cells("short", changed, DEMO_MODEL, 2, tmp_path))
    assert not list(Cells("short", SHORT, DEMO_MODEL, 3, tmp_path))
    assert len(filled(tmp_path, changed, kinds=[COAT])) == 1


def test_true_edit_is_right_and_the_source_is_not() -> None:
    (clip,) = bench_clips(1, 2)
    for kind in KINDS:
        right, wrong = (measure(frames, clip, kind, None) for frames in (clip.edit(kind).frames, clip.source.frames))
        assert (right["strict"], right["loose"], right["flicker"]) == (1, 1, 1)
        assert wrong["loose"] == 0


def test_words_of_an_edit_are_others_and_stay() -> None:
    for clip in [*bench_clips(4, 1), *bench_clips(4, 1, DEVELOPMENT)]:
        for kind in KINDS:
            changed = clip.edited(kind)
            assert {name for name in changed if changed[name] != clip.words[name]} == set(kind)
            assert clip.edited(kind) == changed


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["published", "without temporal attention", "all weights"])
def test_each_way_trains_its_weights(trained: str) -> None:
    (clip,) = bench_clips(1, 2)
    way = replace(SHORT, trained=trained, start_from="noise")
    editor = Edited(way, DEMO_MODEL, clip).editor
    untuned = Edited(replace(way, tuning=None), DEMO_MODEL, clip).editor
    before = dict(untuned.video_unet.unet.named_parameters())
    changed = {name for name, now in editor.video_unet.unet.named_parameters() if not torch.equal(now, before[name])}
    temporal, queries = (
        {name for name in before if ".attn_temp." in name},
        {name for name in before if ".attn1.to_q." in name or ".attn2.to_q." in name},
    )
    assert queries <= changed
    assert bool(temporal & changed) == (trained != "without temporal attention")
    assert (changed <= queries | temporal) == (trained != "all weights")


def test_ways_differ_in_their_digest() -> None:
    assert len({way.digest() for way in WAYS.values()}) == len(WAYS)


def test_intervals_count_clips_and_not_edits() -> None:
    def cells(shift: float) -> list[Cell]:
        rng = np.random.default_rng(0)
        return [
            dict(clip=clip, kind=kind, seed=0, iou=float(level + shift))
            for clip, level in enumerate(rng.normal(size=12))
            for kind in "abcde"
        ]

    found = mean_over_clips(cells(0.0), "iou")
    spread = np.std([cell["iou"] for cell in cells(0.0)][::5])
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread / 12**0.5, rel=0.15)
    difference = paired_difference(cells(0.25), cells(0.0), "iou")
    assert difference.mean == pytest.approx(0.25) and difference.excludes_zero
    assert not paired_difference(cells(0.0), cells(0.0), "iou").excludes_zero
    assert f"{difference * 100:.0f}" == "25 (25 to 25)"
    with pytest.raises(ValueError, match="no cells"):
        mean_over_clips([], "iou")


def test_edits_count_alike_however_many_seeds_they_have() -> None:
    def cell(kind: str, seed: int, iou: float) -> Cell:
        return dict(clip=1, kind=kind, seed=seed, iou=iou)

    three = [cell("coat", 0, 0.0), cell("coat", 1, 0.3), cell("coat", 2, 0.6), cell("place", 0, 0.9)]
    assert mean_over_clips(three, "iou").mean == pytest.approx(0.6)
    still = [cell("coat", 0, 0.1), cell("style", 0, 1.0)]  # a way that draws nothing
    assert paired_difference(three, still, "iou").mean == pytest.approx(0.2)


def test_tables_show_rates_and_differences() -> None:
    def cells(iou: float, joints: float, clips: int = 4) -> list[Cell]:
        numbers = dict(strict=0.5, loose=1.0, iou=iou, figure_psnr=20.0, rest_psnr=30.0, joints=joints, flicker=1.0)
        swap = dict(kind="figure", seed=0, **numbers | {"joints": 99.0})
        return [dict(clip=clip, kind="coat", seed=0, **numbers) for clip in range(clips)] + [dict(clip=0, **swap)]

    text = tables({"published": cells(0.75, 1.0), "untuned": [*cells(0.5, 2.0), cells(0.5, 50.0, 6)[5]]})
    assert "| published | 50 / 100 | 50 / 100 | - | - | - | 4 |" in text
    assert "| published - untuned | held out | 0 (0 to 0) | 0 (0 to 0) | 0.25 (0.25 to 0.25) |" in text
    row = next(line for line in text.splitlines() if line.startswith("| published - untuned | held out"))
    assert row.endswith("| 0.50 |")  # of the clips of both, without swaps
