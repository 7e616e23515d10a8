"""The store: results are found again, runs resume, and failed states are not stored."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tav_core.store.keys
from tav_core import (
    InversionConfig,
    NoisePrediction,
    Store,
    TuningConfig,
    TuningStep,
    VideoUNet,
    inflate,
    invert,
    load_tuned,
    tune,
)
from tav_core.store.keys import result_key
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, MakeUNet
from tests.tuning.test_tuning_state import LATENTS, TEXT, same, weights

CONFIG = TuningConfig(steps=5, learning_rate=1e-2, seed=3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "mein Speicher")


def kinds(store: Store) -> list[str]:
    return sorted(entry.kind for entry in store.entries())


def reference(make_unet: MakeUNet, config: TuningConfig = CONFIG) -> tuple[list[TuningStep], dict[str, Tensor]]:
    video_unet = inflate(make_unet())
    return list(tune(video_unet, LATENTS, TEXT, EPSILON, config)), weights(video_unet)


@pytest.fixture
def no_forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """To be called when from now on the model must not run."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("The model was run.")

    return lambda: monkeypatch.setattr(VideoUNet, "forward", refuse)


def test_resume_is_bit_exact(make_unet: MakeUNet, store: Store) -> None:
    expected, expected_weights = reference(make_unet)
    made = []
    for taken in (1, 0, 3, 9):
        video_unet = inflate(make_unet())
        run = store.tune(video_unet, LATENTS, TEXT, EPSILON, CONFIG)
        assert run.steps == expected[: len(made)]
        for step, _ in zip(run, range(taken), strict=False):
            made.append(step)
        run.close()
        made = list(run.steps)
    assert made == expected
    assert same(weights(video_unet), expected_weights)
    assert kinds(store) == ["tuned"]


def test_finished_tunings_are_loaded_without_a_step(
    make_unet: MakeUNet, store: Store, no_forward: Callable[[], None]
) -> None:
    video_unet, outcomes = inflate(make_unet()), []
    other = TuningConfig(steps=2, seed=4)
    for config in (CONFIG, other):
        video_unet.reset()
        steps = list(store.tune(video_unet, LATENTS, TEXT, EPSILON, config))
        outcomes.append((steps, weights(video_unet)))
    no_forward()
    for config, (steps, tuned) in zip((CONFIG, other, CONFIG), (*outcomes, outcomes[0]), strict=True):
        video_unet.reset()
        run = Store(store.folder).tune(video_unet, LATENTS, TEXT, EPSILON, config)
        assert list(run) == [] and run.steps == steps
        assert same(weights(video_unet), tuned)
        run.close()


def test_a_finished_entry_is_a_file_of_tuned_weights(make_unet: MakeUNet, store: Store) -> None:
    video_unet, fresh = inflate(make_unet()), inflate(make_unet())
    list(store.tune(video_unet, LATENTS, TEXT, EPSILON, CONFIG))
    load_tuned(fresh, store.entries()[0].path)
    assert same(weights(fresh), weights(video_unet))


def test_works_inside_inference_mode(make_unet: MakeUNet, store: Store) -> None:
    _, expected = reference(make_unet)
    first, video_unet = inflate(make_unet()), inflate(make_unet())
    with torch.inference_mode():
        next(store.tune(first, LATENTS.clone(), TEXT, EPSILON, CONFIG))
        run = store.tune(video_unet, LATENTS.clone(), TEXT, EPSILON, CONFIG)
        assert len(run.steps) == 1
        list(run)
    assert same(weights(video_unet), expected)


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("injected"), KeyboardInterrupt(), FloatingPointError("nan")])
def test_an_error_within_a_step_stores_the_step_before(
    make_unet: MakeUNet, store: Store, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    expected, expected_weights = reference(make_unet)
    loss, calls = NoisePrediction.__call__, []

    def failing(*arguments: object) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise fault
        return loss(*arguments)

    monkeypatch.setattr(NoisePrediction, "__call__", failing)
    with pytest.raises(type(fault)):
        list(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG))
    video_unet = inflate(make_unet())
    run = store.tune(video_unet, LATENTS, TEXT, EPSILON, CONFIG)
    assert run.steps == expected[:2]
    list(run)
    assert same(weights(video_unet), expected_weights)


@pytest.mark.parametrize("checkpointing", ["selective", True])
def test_resume_with_gradient_checkpointing_is_bit_exact(
    make_unet: MakeUNet, store: Store, checkpointing: bool | str
) -> None:
    _, expected = reference(make_unet)
    next(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG))
    video_unet = inflate(make_unet())
    run = store.tune(video_unet, LATENTS, TEXT, EPSILON, replace(CONFIG, gradient_checkpointing=checkpointing))
    assert len(run.steps) == 1
    list(run)
    assert same(weights(video_unet), expected)


def test_a_non_finite_loss_stores_the_last_good_state(
    make_unet: MakeUNet, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = NoisePrediction.__call__, []

    def diverging(*arguments: object) -> Tensor:
        calls.append(1)
        return loss(*arguments) * (math.nan if len(calls) == 4 else 1)

    monkeypatch.setattr(NoisePrediction, "__call__", diverging)
    with pytest.raises(FloatingPointError, match="loss of tuning step 4 is nan"):
        list(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG))
    assert len(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG).steps) == 3


def test_non_finite_weights_are_never_stored(
    make_unet: MakeUNet, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = torch.optim.AdamW.step

    def overflowing(optimizer: torch.optim.AdamW, *arguments: object) -> None:
        step(optimizer, *arguments)
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0][0, 0] = torch.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", overflowing)
    with pytest.raises(FloatingPointError, match="After tuning step 1 a weight is not finite"):
        list(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, TuningConfig(steps=1)))
    run = store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, TuningConfig(steps=2))
    next(run)
    run.close()
    assert store.entries() == []


def test_an_interrupted_update_leaves_the_stored_state(
    make_unet: MakeUNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, step, calls = Store(tmp_path, save_every=1, save_share=math.inf), torch.optim.AdamW.step, []

    def failing(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", failing)
    with pytest.raises(KeyboardInterrupt):
        list(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG))
    assert len(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG).steps) == 2


def test_states_are_saved_at_intervals_within_the_time_share(
    make_unet: MakeUNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(Store, "_save_tuning", lambda self, key, state, *_: kept.append(len(state.steps)))
    for save_every, save_share, expected in ((2, math.inf, [2, 4, 5]), (1, 1e-9, [1, 5]), (50, 1.0, [5])):
        kept.clear()
        store = Store(tmp_path, save_every=save_every, save_share=save_share)
        list(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG))
        assert kept == expected


def test_a_failed_save_restores_the_models_flags(
    make_unet: MakeUNet, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_unet, config = inflate(make_unet()), replace(CONFIG, gradient_checkpointing=True)

    def full(*_: object) -> None:
        raise OSError("The disk is full")

    monkeypatch.setattr(Store, "_save_tuning", full)
    with pytest.raises(OSError, match="full") as kept:
        list(store.tune(video_unet, LATENTS, TEXT, EPSILON, config))
    assert kept.value.__traceback__ is not None and not video_unet.context.checkpointing


def test_a_run_behind_another_process_does_not_overwrite_its_state(make_unet: MakeUNet, store: Store) -> None:
    ahead, behind = (store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG) for _ in range(2))
    next(ahead), next(ahead), next(behind)
    ahead.close()
    behind.close()
    late = store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG)
    assert len(late.steps) == 2
    next(late)
    list(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG))
    late.close()
    assert kinds(store) == ["tuned"]


def test_the_state_of_a_finished_tuning_is_removed(make_unet: MakeUNet, store: Store) -> None:
    next(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG))
    (entry,) = store.entries()
    state = entry.path.read_bytes()
    list(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG))
    entry.path.write_bytes(state)  # as if killed before it was removed
    store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG)
    assert kinds(store) == ["tuned"]


def test_inversions_are_loaded_from_the_store(
    make_unet: MakeUNet, store: Store, no_forward: Callable[[], None]
) -> None:
    video_unet, config = inflate(make_unet()), InversionConfig(4)
    expected = list(invert(video_unet, LATENTS, TEXT, EPSILON, config))
    next(store.invert(video_unet, LATENTS, TEXT, EPSILON, config))
    assert kinds(store) == []
    first = list(store.invert(video_unet, LATENTS, TEXT, EPSILON, config))
    no_forward()
    again = list(store.invert(video_unet, LATENTS, TEXT, EPSILON, config))
    for steps in (first, again):
        assert [step.timestep for step in steps] == [step.timestep for step in expected]
        assert all(torch.equal(a.latents, b.latents) for a, b in zip(steps, expected, strict=True))
    with pytest.raises(AssertionError, match="was run"):
        next(store.invert(video_unet, LATENTS, TEXT, EPSILON, InversionConfig(5)))


def test_reconstruction_snr_is_stored_with_the_inversion(make_unet: MakeUNet, store: Store) -> None:
    video_unet = inflate(make_unet())
    run = store.invert(video_unet, LATENTS, TEXT, EPSILON, InversionConfig(4))
    assert run.reconstruction_snr is None
    list(run)
    run.save_reconstruction_snr(31.25)
    assert kinds(store) == ["inversion", "reconstruction"]
    again = Store(store.folder)
    assert again.invert(video_unet, LATENTS, TEXT, EPSILON, InversionConfig(4)).reconstruction_snr == 31.25
    assert again.invert(video_unet, LATENTS, TEXT, EPSILON, InversionConfig(5)).reconstruction_snr is None


def test_storing_reconstruction_snr_evicts_no_inversion(make_unet: MakeUNet, tmp_path: Path) -> None:
    store = Store(tmp_path, max_bytes=1000)
    run = store.invert(inflate(make_unet()), LATENTS, TEXT, EPSILON, InversionConfig(4))
    list(run)
    run.save_reconstruction_snr(31.25)
    assert kinds(store) == ["inversion", "reconstruction"]


def test_everything_that_changes_the_result_changes_the_key(
    make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"latents": LATENTS, "encoder_hidden_states": TEXT, "scheduler": EPSILON, "config": CONFIG}

    def key(video_unet: VideoUNet | None = None, **changes: object) -> str:
        return result_key(video_unet or inflate(make_unet()), **(given | changes))

    other_frozen, other_trained = inflate(make_unet()), inflate(make_unet())
    with torch.no_grad():
        other_frozen.unet.conv_in.bias[0] += 1e-6
        other_trained.unet.mid_block.attentions[0].transformer_blocks[0].attn_temp.to_out[0].bias[0] += 1e-6
    keys = [
        key(),
        key(other_frozen),
        key(other_trained),
        key(inflate(make_unet().bfloat16())),
        key(inflate(make_unet(act_fn="mish"))),
        key(inflate(make_unet(), group_norm="frame")),
        key(inflate(make_unet(), attention="per_frame")),
        key(inflate(make_unet(), temporal_positions=True)),
        key(latents=LATENTS + 1e-6),
        key(latents=LATENTS.reshape(1, 4, 2, 2, 8)),
        key(encoder_hidden_states=TEXT + 1e-6),
        key(scheduler=VELOCITY_ZERO_SNR),
        key(scheduler=EPSILON | {"prediction_type": "v_prediction"}),
        key(scheduler=EPSILON | {"beta_end": 0.011}),
        key(config=InversionConfig()),
        key(config=TuningConfig(steps=5, learning_rate=1e-2, seed=4)),
        key(config=TuningConfig(steps=6, learning_rate=1e-2, seed=3)),
        key(config=TuningConfig(steps=5, learning_rate=1e-2, seed=3, compute_dtype=torch.bfloat16)),
    ]
    monkeypatch.setattr(tav_core.store.keys.torch, "__version__", "another")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_equal_inputs_have_the_same_key(make_unet: MakeUNet) -> None:
    checkpointing = TuningConfig(steps=5, learning_rate=1e-2, seed=3, gradient_checkpointing=True)
    first = result_key(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG)
    strided = LATENTS.transpose(3, 4).contiguous().transpose(3, 4)
    assert result_key(inflate(make_unet()), strided, TEXT, EPSILON | {"clip_sample": False}, checkpointing) == first


def test_frozen_weights_are_digested_again_only_after_a_write(
    make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_unet, sizes = inflate(make_unet()), []
    digest = tav_core.store.keys.digest
    monkeypatch.setattr(tav_core.store.keys, "digest", lambda tensors: sizes.append(len(tensors)) or digest(tensors))
    keys = [result_key(video_unet, LATENTS, TEXT, EPSILON, CONFIG) for _ in range(2)]
    frozen = max(sizes)
    assert keys[0] == keys[1] and sizes.count(frozen) == 1
    with torch.no_grad():
        video_unet.unet.conv_in.weight.mul_(2)
    assert result_key(video_unet, LATENTS, TEXT, EPSILON, CONFIG) != keys[0] and sizes.count(frozen) == 2


def test_a_write_through_data_changes_the_key(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    key = partial(result_key, video_unet, LATENTS, TEXT, EPSILON, CONFIG)
    weight, keys = video_unet.unet.conv_in.weight, [key()]
    for change in (weight.data.mul_, weight.data[0, 0, 0].sub_, lambda by: setattr(weight, "data", weight.data * by)):
        version = weight._version
        change(2)
        assert weight._version == version
        keys.append(key())
    assert len(set(keys)) == 4


def test_numbers_of_numpy_make_the_same_key(make_unet: MakeUNet) -> None:
    config = TuningConfig(np.int64(5), np.float64(1e-2), seed=np.uint8(3))
    assert result_key(inflate(make_unet()), LATENTS, TEXT, EPSILON, config) == result_key(
        inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG
    )


def test_invalid_options_raise(tmp_path: Path) -> None:
    for options in ({"max_bytes": -1}, {"save_every": 0}, {"save_share": 0.0}, {"save_share": math.nan}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Store(tmp_path, **options)
