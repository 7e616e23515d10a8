"""Tuning: what it changes, what it leaves unchanged, and the errors it raises."""

import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.optimization import get_scheduler
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tav_core import NoiseSchedule, TuningConfig, TuningStep, VideoUNet, inflate, trainable_parameters, tune
from tav_core.tuning.state import TuningState
from tav_core.unet.modules import ClipResnet
from tests.conftest import EPSILON, VELOCITY_ZERO_SNR, MakeUNet, draw

LATENTS, TEXT = draw(1, 4, 3, 6, 6), draw(1, 5, 12, seed=1)
FAST = 1e-3  # a learning rate at which two steps leave the first rounding errors behind


def tuned(
    make_unet: MakeUNet, scheduler: object = EPSILON, shape: str = "sd1", **options: object
) -> tuple[VideoUNet, list[TuningStep]]:
    video_unet = inflate(make_unet(shape))
    steps = list(tune(video_unet, LATENTS, TEXT, scheduler, TuningConfig(**({"steps": 2} | options))))
    return video_unet, steps


def weights(video_unet: VideoUNet) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainable_parameters(video_unet).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("scheduler", [EPSILON, VELOCITY_ZERO_SNR])
def test_tuning_changes_the_trained_weights_only(make_unet: MakeUNet, scheduler: object) -> None:
    untuned = inflate(make_unet())
    video_unet, steps = tuned(make_unet, scheduler)
    assert [step.step for step in steps] == [1, 2]
    assert all(0 < step.loss < 10 and step.learning_rate == 3e-5 for step in steps)
    trained, before = trainable_parameters(video_unet), untuned.unet.state_dict()
    for name, tensor in video_unet.unet.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in trained), name


def test_tuning_lowers_the_loss(make_unet: MakeUNet) -> None:
    timesteps, noise = [500] * 30, [draw(*LATENTS.shape, seed=5)] * 30
    config = TuningConfig(steps=30, learning_rate=1e-2)
    losses = [
        s.loss for s in tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, config, noise=noise, timesteps=timesteps)
    ]
    assert losses[-1] < 0.9 * losses[0]


def test_same_seed_gives_the_same_bits(make_unet: MakeUNet) -> None:
    before = torch.get_rng_state()
    first, second = tuned(make_unet, seed=3), tuned(make_unet, seed=3)
    assert first[1] == second[1]
    assert same(weights(first[0]), weights(second[0]))
    assert first[1] != tuned(make_unet, seed=4)[1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("share", "below"), [(1.0, 1000), (0.3, 300), (0.0001, 1)])
def test_timesteps_are_drawn_from_the_clean_end_of_the_schedule(make_unet: MakeUNet, share: float, below: int) -> None:
    video_unet, seen = inflate(make_unet()), []
    video_unet.register_forward_pre_hook(lambda _, arguments: seen.append(int(arguments[1])))
    list(tune(video_unet, LATENTS, TEXT, EPSILON, TuningConfig(steps=24, timestep_range=share)))
    assert below // 2 <= max(seen) < below
    with pytest.raises(ValueError, match="timestep_range must be a number in"):
        TuningConfig(timestep_range=0.0)


def gradients(video_unet: VideoUNet, checkpointing: bool | str = False) -> dict[str, Tensor]:
    video_unet.context.checkpointing = checkpointing
    video_unet(LATENTS, 437, TEXT).square().mean().backward()
    return {name: parameter.grad for name, parameter in trainable_parameters(video_unet).items()}


@pytest.mark.parametrize("checkpointing", ["selective", True])
@pytest.mark.parametrize("shape", ["sd1", "sd2"])
def test_every_trained_tensor_gets_a_gradient_with_and_without_checkpointing(
    make_unet: MakeUNet, shape: str, checkpointing: bool | str
) -> None:
    # At step 0 the zero output projection lets no gradient into the temporal queries, keys and values.
    video_unet, _ = tuned(make_unet, shape=shape, steps=1)
    plain, checkpointed = gradients(copy.deepcopy(video_unet)), gradients(video_unet, checkpointing)
    for name, gradient in plain.items():
        assert gradient.any(), name
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("compute_dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sparse_causal", "per_frame"])
def test_checkpointing_gives_the_same_weights(
    make_unet: MakeUNet, attention: str, compute_dtype: torch.dtype | None
) -> None:
    tuned_weights = {}
    for checkpointing in (False, "selective", True):
        video_unet = inflate(make_unet(), attention=attention)
        config = TuningConfig(steps=2, gradient_checkpointing=checkpointing, compute_dtype=compute_dtype)
        list(tune(video_unet, LATENTS, TEXT, EPSILON, config))
        assert not video_unet.context.checkpointing
        tuned_weights[checkpointing] = weights(video_unet)
    assert same(tuned_weights["selective"], tuned_weights[False])
    assert same(tuned_weights[True], tuned_weights[False])


@pytest.mark.parametrize(("checkpointing", "repeated"), [("selective", 0), (True, 1)])
def test_checkpointing_recomputes_one_convolution_of_a_resnet_and_selective_none(
    make_unet: MakeUNet, checkpointing: bool | str, repeated: int
) -> None:
    video_unet, runs = inflate(make_unet()), Counter()
    resnets = [module for module in video_unet.modules() if isinstance(module, ClipResnet)]
    for resnet in resnets:
        for name in ("norm1", "conv1", "conv2", "conv_shortcut"):
            if module := getattr(resnet, name):
                module.register_forward_hook(lambda *_, name=name: runs.update([name]))
    gradients(video_unet, checkpointing)
    # The first resnet lies before all that trains, so that nothing asks for what it kept.
    again = len(resnets) - 1
    shortcuts = sum(resnet.conv_shortcut is not None for resnet in resnets)
    once, twice = len(resnets), len(resnets) + again
    assert runs == {
        "norm1": twice, "conv1": once + repeated * again, "conv2": once, "conv_shortcut": shortcuts,
    }  # fmt: skip


@pytest.mark.parametrize(("checkpointing", "few", "many"), [(False, 1, 1), ("selective", 2, 1), (True, 2, 2)])
def test_selective_checkpointing_recomputes_text_and_temporal_attention_only(
    make_unet: MakeUNet, checkpointing: bool | str, few: int, many: int
) -> None:
    video_unet, by_keys = inflate(make_unet()), Counter()

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.__name__.startswith("_scaled_dot_product") and "backward" not in func.__name__:
                by_keys[args[1].shape[2]] += 1
            return func(*args, **(kwargs or {}))

    with Listener():
        gradients(video_unet, checkpointing)
    blocks, frames = len(video_unet.blocks), LATENTS.shape[2]
    assert by_keys.pop(TEXT.shape[1]) == by_keys.pop(frames) == few * blocks
    assert sum(by_keys.values()) == many * 2 * blocks, "the first two frames, and those after them"


def test_tunes_inside_inference_mode_and_leaks_no_mode(make_unet: MakeUNet) -> None:
    expected, steps = tuned(make_unet)
    video_unet, another = inflate(make_unet()), inflate(make_unet())
    with torch.inference_mode():
        latents, text, noise = LATENTS.clone(), TEXT.clone(), draw(*LATENTS.shape).clone()
        assert latents.is_inference()
        inside = []
        for step in tune(video_unet, latents, text, EPSILON, TuningConfig(steps=2)):
            assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
            inside.append(step)
        list(tune(another, latents, text, EPSILON, TuningConfig(steps=1), noise=[noise]))
    assert inside == steps
    assert same(weights(video_unet), weights(expected))
    with torch.no_grad():
        for _ in tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, TuningConfig(steps=1)):
            assert not torch.is_grad_enabled()


@pytest.mark.parametrize("end", ["finished", "closed", "failed"])
def test_flags_and_modes_are_restored(make_unet: MakeUNet, end: str) -> None:
    video_unet = inflate(make_unet()).train().requires_grad_(True)
    video_unet.unet.mid_block.eval()
    modes = [module.training for module in video_unet.modules()]
    noise = [torch.full(LATENTS.shape, torch.nan)] * 2 if end == "failed" else None
    steps = tune(video_unet, LATENTS, TEXT, EPSILON, TuningConfig(steps=2), noise=noise)
    if end == "failed":
        with pytest.raises(FloatingPointError):
            next(steps)
    elif end == "closed":
        next(steps)
        assert not video_unet.unet.conv_in.weight.requires_grad
        steps.close()
    else:
        list(steps)
    assert [module.training for module in video_unet.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in video_unet.parameters())


def test_latents_changed_while_tuning_have_no_effect(make_unet: MakeUNet) -> None:
    reference, video_unet, latents, text = inflate(make_unet()), inflate(make_unet()), LATENTS.clone(), TEXT.clone()
    expected = list(tune(reference, LATENTS, TEXT, EPSILON, TuningConfig(steps=2)))
    steps = tune(video_unet, latents, text, EPSILON, TuningConfig(steps=2))
    got = [next(steps)]
    latents.zero_(), text.zero_()
    assert [*got, *steps] == expected


def test_dropout_is_off(make_unet: MakeUNet) -> None:
    training, evaluating = inflate(make_unet(dropout=0.5)), inflate(make_unet(dropout=0.5))
    training.train()
    first, second = (list(tune(u, LATENTS, TEXT, EPSILON, TuningConfig(steps=1))) for u in (training, evaluating))
    assert first == second and training.training


def test_non_finite_loss_raises_before_the_update(make_unet: MakeUNet) -> None:
    noise = [draw(*LATENTS.shape), torch.full(LATENTS.shape, torch.nan)]
    video_unet = inflate(make_unet())
    steps = tune(video_unet, LATENTS, TEXT, EPSILON, TuningConfig(steps=2), noise=noise)
    next(steps)
    after_first = weights(video_unet)
    with pytest.raises(FloatingPointError, match="loss of tuning step 2 is nan"):
        next(steps)
    assert same(weights(video_unet), after_first)


def test_non_finite_gradient_raises_before_the_update(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    before = weights(video_unet)
    next(iter(trainable_parameters(video_unet).values())).register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(FloatingPointError, match="gradient of tuning step 1"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON))
    assert same(weights(video_unet), before)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_learning_rates_equal_diffusers(make_unet: MakeUNet, name: str) -> None:
    _, steps = tuned(make_unet, steps=5, lr_schedule=name, warmup_steps=2)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=3e-5)
    reference = get_scheduler("constant_with_warmup" if name == "constant" else name, optimizer, None, 2, 5)
    expected = []
    for _ in steps:
        expected.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    assert [step.learning_rate for step in steps] == expected


def test_accumulating_two_draws_equals_a_batch_of_two(make_unet: MakeUNet) -> None:
    noise, timesteps = draw(2, *LATENTS.shape), torch.tensor([[100], [800]])
    accumulated, batched = inflate(make_unet()), inflate(make_unet())
    twice = TuningConfig(steps=1, gradient_accumulation_steps=2, eps=1e-3, learning_rate=FAST)
    (a,) = tune(accumulated, LATENTS, TEXT, EPSILON, twice, noise=noise, timesteps=timesteps)
    both, text = LATENTS.expand(2, -1, -1, -1, -1), TEXT.expand(2, -1, -1)
    once = TuningConfig(steps=1, eps=1e-3, learning_rate=FAST)
    (b,) = tune(batched, both, text, EPSILON, once, noise=noise[None, :, 0], timesteps=timesteps[None, :, 0])
    assert a.loss == pytest.approx(b.loss)
    torch.testing.assert_close(weights(accumulated), weights(batched))


@pytest.mark.parametrize("scheduler", [EPSILON, VELOCITY_ZERO_SNR])
def test_min_snr_weights_the_loss(make_unet: MakeUNet, scheduler: object) -> None:
    losses = []
    for gamma in (None, 5.0):
        config = TuningConfig(steps=1, min_snr_gamma=gamma)
        (step,) = tune(inflate(make_unet()), LATENTS, TEXT, scheduler, config, timesteps=[100])
        losses.append(step.loss)
    weight = NoiseSchedule.from_scheduler(scheduler).min_snr_weight(torch.tensor([100]), 5.0).item()
    assert losses[1] == pytest.approx(weight * losses[0])


def test_target_is_the_velocity_for_a_v_prediction_model(make_unet: MakeUNet) -> None:
    noise, video_unet = draw(*LATENTS.shape), inflate(make_unet())
    (step,) = tune(
        copy.deepcopy(video_unet),
        LATENTS,
        TEXT,
        VELOCITY_ZERO_SNR,
        TuningConfig(steps=1),
        noise=[noise],
        timesteps=[999],
    )
    with torch.no_grad():  # no signal is left at 999: the input is the noise, the velocity minus the clip
        expected = (video_unet(noise, 999, TEXT) + LATENTS).square().mean()
    assert step.loss == pytest.approx(expected.item())


def test_bfloat16_by_autocast_and_by_frozen_weights(make_unet: MakeUNet) -> None:
    reference = tuned(make_unet)[1]
    by_autocast = tuned(make_unet, compute_dtype=torch.bfloat16)[1]
    by_weights = list(tune(inflate(make_unet().bfloat16()), LATENTS.half(), TEXT, EPSILON, TuningConfig(steps=2)))
    for steps in (by_autocast, by_weights):
        assert [step.loss for step in steps] == pytest.approx([step.loss for step in reference], rel=0.05)


def test_unsupported_precision_raises(make_unet: MakeUNet) -> None:
    with pytest.raises(ValueError, match="float16 needs a CUDA device"):
        tuned(make_unet, compute_dtype=torch.float16)
    with pytest.raises(ValueError, match="Weights that train rest in float32"):
        next(tune(inflate(make_unet()).bfloat16(), LATENTS, TEXT, EPSILON))
    with pytest.raises(ValueError, match="needs a model loaded in float32"):
        config = TuningConfig(compute_dtype=torch.float32)
        next(tune(inflate(make_unet().bfloat16()), LATENTS, TEXT, EPSILON, config))
    moved = inflate(make_unet())
    with torch.inference_mode():
        moved.to(torch.float64).to(torch.float32)
    with pytest.raises(ValueError, match="inference_mode"):
        next(tune(moved, LATENTS, TEXT, EPSILON))


@pytest.mark.parametrize(
    "option",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"lr_schedule": "polynomial"},
        {"warmup_steps": -1},
        {"max_grad_norm": 0.0},
        {"gradient_accumulation_steps": 0},
        {"min_snr_gamma": 0.0},
        {"compute_dtype": torch.int8},
    ],
)
def test_invalid_options_raise(option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        TuningConfig(**option)


@pytest.mark.parametrize(
    ("latents", "text", "overrides", "message"),
    [
        (LATENTS[:, :, 0], TEXT, {}, "5 dimensions"),
        (LATENTS[:, :, :0], TEXT, {}, "at least one frame"),
        (LATENTS, TEXT[..., :8], {}, "width 12, got 8"),
        (LATENTS, TEXT.expand(3, -1, -1), {}, "one prompt for each clip"),
        (LATENTS, TEXT, {"noise": [LATENTS]}, "noise holds 1 draws"),
        (LATENTS, TEXT, {"timesteps": [3]}, "timesteps holds 1 draws"),
        (LATENTS, TEXT, {"noise": [LATENTS[:, :, :1]] * 2}, "Noise is like the latents"),
    ],
)
def test_wrong_inputs_raise(
    make_unet: MakeUNet, latents: Tensor, text: Tensor, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        next(tune(inflate(make_unet()), latents, text, EPSILON, TuningConfig(steps=2), **overrides))


@pytest.mark.parametrize("timestep", [-1, 1000, 3.7, torch.tensor([1, 2])], ids=str)
def test_timesteps_outside_the_schedule_raise(make_unet: MakeUNet, timestep: Any) -> None:
    with pytest.raises(ValueError, match=r"A timestep is a whole number in \[0, 1000\), or 1 of them"):
        next(tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, TuningConfig(steps=1), timesteps=[timestep]))


def test_only_trained_weights_reach_the_optimiser(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    (group,) = TuningState(video_unet, TuningConfig()).optimizer.param_groups
    assert list(map(id, group["params"])) == list(map(id, trainable_parameters(video_unet).values()))


def test_takes_latents_and_embeddings_only() -> None:
    assert list(inspect.signature(tune).parameters)[:4] == [
        "video_unet",
        "latents",
        "encoder_hidden_states",
        "scheduler",
    ]


def test_yields_one_update_at_a_time(make_unet: MakeUNet) -> None:
    steps = tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, TuningConfig(steps=1000))
    assert isinstance(steps, Iterator)
    assert next(steps).step == 1
