"""Low-rank updates in place of the published weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from peft import LoraConfig, inject_adapter_in_model

from tav_core import (
    ClipEditor,
    InversionConfig,
    SamplingConfig,
    Store,
    TuningConfig,
    VideoUNet,
    estimate_memory,
    export_tuned,
    inflate,
    load_model,
    load_tuned,
    save_tuned,
    trainable_parameters,
    tune,
)
from tav_core.unet.low_rank import DOWN, UP
from tests.conftest import EPSILON, MakeUNet, draw

SCHEDULER = DDIMScheduler(**EPSILON)
RANK, TUNING = 4, TuningConfig(steps=3, learning_rate=1e-2)
GIVEN = draw(1, 4, 3, 8, 8), 421, draw(1, 7, 12, seed=1)


def tuned(make_unet: MakeUNet) -> VideoUNet:
    video_unet = inflate(make_unet(), lora_rank=RANK)
    for _ in tune(video_unet, GIVEN[0], GIVEN[2], SCHEDULER, TUNING):
        pass
    return video_unet


def test_it_begins_as_the_image_model_and_trains_the_updates_alone(make_unet: MakeUNet) -> None:
    plain, video_unet = inflate(make_unet()), inflate(make_unet(), lora_rank=RANK)
    with torch.no_grad():
        assert torch.equal(plain(*GIVEN), video_unet(*GIVEN))
    names = trainable_parameters(video_unet)
    assert all(name.endswith((DOWN, UP)) for name in names) and len(names) == 2 * 6 * len(video_unet.blocks)
    trains = {name for name, parameter in video_unet.unet.named_parameters() if parameter.requires_grad}
    assert trains == names.keys()
    assert sum(p.numel() for p in names.values()) < sum(p.numel() for p in trainable_parameters(plain).values())


def test_tuning_changes_the_updates_and_nothing_else(make_unet: MakeUNet) -> None:
    before = {name: p.clone() for name, p in inflate(make_unet(), lora_rank=RANK).unet.named_parameters()}
    video_unet = tuned(make_unet)
    changed = {n for n, p in video_unet.unet.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(trainable_parameters(video_unet)) and video_unet.adapter.is_tuned()


def test_the_global_generator_is_left_alone(make_unet: MakeUNet) -> None:
    unet, state = make_unet(), torch.random.get_rng_state()
    inflate(unet, lora_rank=RANK)
    assert torch.equal(state, torch.random.get_rng_state())


def test_strength_scales_the_updates(make_unet: MakeUNet) -> None:
    """At 1 to the bit, at 0 the image model; between them W + s B A, in the temporal attention at its output alone."""
    video_unet, plain = tuned(make_unet), inflate(make_unet())
    with torch.no_grad():
        whole = video_unet(*GIVEN)
        updates = video_unet.adapter.differences()
        video_unet.adapter.scale = 0.5
        half = video_unet(*GIVEN)
        weights = dict(plain.unet.named_parameters())
        for name, update in updates.items():
            inner = ".attn_temp." in name and ".to_out." not in name
            weights[name] += (1.0 if inner else 0.5) * update
        torch.testing.assert_close(half, plain(*GIVEN), rtol=1e-5, atol=1e-5)
        video_unet.adapter.scale = 0
        assert torch.equal(video_unet(*GIVEN), inflate(make_unet())(*GIVEN))
        video_unet.adapter.scale = 1
        assert torch.equal(video_unet(*GIVEN), whole)


def test_a_file_brings_it_back_and_fits_its_rank_alone(make_unet: MakeUNet, tmp_path: Path) -> None:
    video_unet, file = tuned(make_unet), tmp_path / "clip.safetensors"
    save_tuned(video_unet, file)
    other = inflate(make_unet(), lora_rank=RANK)
    load_tuned(other, file)
    with torch.no_grad():
        assert torch.equal(video_unet(*GIVEN), other(*GIVEN))
    for rank in (0, RANK + 1):
        with pytest.raises(
            ValueError, match=f"tuned with lora_rank={RANK}, this model was inflated with lora_rank={rank}"
        ):
            load_tuned(inflate(make_unet(), lora_rank=rank), file)


def test_reset_unlearns(make_unet: MakeUNet) -> None:
    video_unet = tuned(make_unet)
    video_unet.reset()
    fresh = inflate(make_unet(), lora_rank=RANK)
    for name, parameter in trainable_parameters(video_unet).items():
        assert torch.equal(parameter, trainable_parameters(fresh)[name]), name


def test_the_exported_lora_is_the_update_of_the_queries(make_unet: MakeUNet, tmp_path: Path) -> None:
    video_unet = tuned(make_unet)
    exported = export_tuned(video_unet, tmp_path / "lora.safetensors")
    assert set(exported.ranks.values()) <= set(range(1, RANK + 1)) and exported.error < 0.1
    assert {name.rpartition(".attn")[2] for name in exported.ranks} == {"1.to_q.weight", "2.to_q.weight"}


def test_a_layer_that_carries_a_lora_is_refused(make_unet: MakeUNet) -> None:
    unet = make_unet()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["attn1.to_q"]), unet)
    with pytest.raises(ValueError, match=r"attn1.to_q carries a LoRA already: merge it"):
        inflate(unet, lora_rank=RANK)


def test_without_peft_one_sentence(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tav_core.unet.low_rank.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="lora_rank needs peft: pip install peft, or leave lora_rank out"):
        inflate(make_unet(), lora_rank=RANK)


@pytest.mark.parametrize("rank", [-1, 2000, 2.5])
def test_wrong_ranks_are_refused(make_unet: MakeUNet, rank: object) -> None:
    with pytest.raises((TypeError, ValueError), match="lora_rank"):
        inflate(make_unet(), lora_rank=rank)


@pytest.mark.slow
def test_the_plan_counts_the_moments_of_the_updates(make_unet: MakeUNet) -> None:
    size = dict(num_frames=2, height=8, width=8)
    whole, low = (estimate_memory(inflate(make_unet(), lora_rank=rank), TUNING, **size) for rank in (0, RANK))
    trained = sum(p.numel() for p in trainable_parameters(inflate(make_unet(), lora_rank=RANK)).values())
    assert low.moments == 8 * trained < whole.moments and low.peak < whole.peak


@pytest.mark.slow
def test_the_store_finds_it_again_and_does_not_mix_ranks(tmp_path: Path) -> None:
    frames = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    steps = dict(num_inference_steps=2)
    edits, updates = [], []
    for rank in (RANK, RANK, 2 * RANK):
        editor = ClipEditor(load_model(), frames, "a red dog runs", store=Store(tmp_path), lora_rank=rank)
        updates.append(len(list(editor.tune(TuningConfig(steps=2, learning_rate=1e-2)))))
        for _ in editor.invert(InversionConfig(**steps)):
            pass
        *_, last = editor.edit("a blue dog runs", SamplingConfig(**steps, guidance_scale=1.0), start_from="inversion")
        edits.append(last.latents)
    assert updates == [2, 0, 2] and torch.equal(edits[0], edits[1]) and not torch.equal(edits[0], edits[2])


def test_half_precision_trains_updates_in_float32(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet().to(torch.bfloat16), lora_rank=RANK)
    assert {p.dtype for p in trainable_parameters(video_unet).values()} == {torch.float32}
    with torch.no_grad():
        assert video_unet(*GIVEN).dtype == torch.float32
