"""The state of a tuning: a resumed run equals an uninterrupted one, to the bit."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tav_core import TuningConfig, VideoUNet, inflate, trainable_parameters, tune
from tav_core.tuning.state import TuningState
from tests.conftest import EPSILON, MakeUNet, draw

LATENTS, TEXT = draw(1, 4, 2, 4, 4), draw(1, 5, 12, seed=1)
STEPS = 4


def weights(video_unet: VideoUNet) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainable_parameters(video_unet).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"lr_schedule": "cosine", "warmup_steps": 2},
        {"lr_schedule": "linear", "warmup_steps": 1, "min_snr_gamma": 5.0},
        {"gradient_checkpointing": True},
        {"compute_dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_resume_after_each_step_is_bit_exact(make_unet: MakeUNet, options: dict[str, object]) -> None:
    config = TuningConfig(steps=STEPS, learning_rate=1e-2, seed=3, **options)
    reference = inflate(make_unet())
    expected = list(tune(reference, LATENTS, TEXT, EPSILON, config))
    tensors, steps = None, []
    for _ in range(STEPS):
        video_unet = inflate(make_unet())
        state = TuningState(video_unet, config)
        if tensors is not None:
            state.load_state_dict(tensors, steps)
        run = tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state)
        next(run)
        tensors, steps = {name: tensor.clone() for name, tensor in state.state_dict().items()}, list(state.steps)
        run.close()
    assert steps == expected
    assert same(weights(video_unet), weights(reference))


def test_resume_with_the_fused_optimiser_and_other_checkpointing(
    make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where the levels round differently."""
    monkeypatch.setattr("tav_core.tuning.state.FUSED_DEVICES", ("cpu",))
    config = TuningConfig(steps=STEPS, learning_rate=1e-2)
    reference = inflate(make_unet())
    expected = list(tune(reference, LATENTS, TEXT, EPSILON, config))
    for levels in ((False,) * STEPS, (True, False, True, "selective")):
        tensors, steps = None, []
        for level in levels:
            video_unet, now = inflate(make_unet()), replace(config, gradient_checkpointing=level)
            state = TuningState(video_unet, now)
            if tensors is not None:
                state.load_state_dict(tensors, steps)
            next(tune(video_unet, LATENTS, TEXT, EPSILON, now, state=state))
            tensors, steps = {name: tensor.clone() for name, tensor in state.state_dict().items()}, list(state.steps)
        assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected], rel=1e-5)
        for name, weight in weights(video_unet).items():
            torch.testing.assert_close(weight, weights(reference)[name], rtol=0, atol=1e-2 * config.learning_rate)
        assert same(weights(video_unet), weights(reference)) or True in levels


def test_resume_with_given_noise_and_timesteps_is_bit_exact(make_unet: MakeUNet) -> None:
    noise, timesteps = [draw(*LATENTS.shape, seed=seed) for seed in range(4)], [100, 300, 500, 700]
    config = TuningConfig(steps=2, learning_rate=1e-2, gradient_accumulation_steps=2)
    reference, video_unet = inflate(make_unet()), inflate(make_unet())
    list(tune(reference, LATENTS, TEXT, EPSILON, config, noise=noise, timesteps=timesteps))
    state = TuningState(video_unet, config)
    for _ in range(2):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, noise=noise, timesteps=timesteps, state=state))
    assert same(weights(video_unet), weights(reference))


def test_a_state_of_another_model_raises_and_changes_nothing(make_unet: MakeUNet) -> None:
    config = TuningConfig(steps=2)
    video_unet, other = inflate(make_unet()), inflate(make_unet("sd2"))
    before = weights(video_unet)
    with pytest.raises(ValueError, match="another tuning or model"):
        TuningState(video_unet, config).load_state_dict(TuningState(other, config).state_dict(), [])
    with pytest.raises(ValueError, match="another model"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=TuningState(inflate(make_unet()), config)))
    assert same(weights(video_unet), before)


def test_state_after_an_interrupted_update_raises(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TuningConfig(steps=2)
    video_unet = inflate(make_unet())
    state = TuningState(video_unet, config)

    monkeypatch.setattr(state.optimizer, "zero_grad", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    with pytest.raises(RuntimeError, match="was interrupted"):
        state.state_dict()
    with pytest.raises(RuntimeError, match="was interrupted"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_resume_from_a_saved_state_after_an_interrupted_update(
    make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    config = TuningConfig(steps=3, learning_rate=1e-2, gradient_checkpointing=checkpointing)
    expected, video_unet = inflate(make_unet()), inflate(make_unet())
    steps = list(tune(expected, LATENTS, TEXT, EPSILON, config))
    state = TuningState(video_unet, config)
    run = tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state)
    next(run)
    saved = {name: tensor.clone() for name, tensor in state.state_dict().items()}

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(state.optimizer, "zero_grad", interrupt)
        next(run)
    assert not state.whole
    state.load_state_dict(saved, steps[:1])
    assert state.whole and list(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state)) == steps[1:]
    assert same(weights(video_unet), weights(expected))


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_step_interrupted_before_its_update_is_repeated(make_unet: MakeUNet, calls: int) -> None:
    config = TuningConfig(steps=2, learning_rate=1e-2, gradient_accumulation_steps=2)
    reference, video_unet = inflate(make_unet()), inflate(make_unet())
    expected = list(tune(reference, LATENTS, TEXT, EPSILON, config))
    state, called = TuningState(video_unet, config), []

    def interrupt(*_: object) -> None:
        called.append(1)
        if len(called) == calls:
            raise KeyboardInterrupt

    hook = video_unet.unet.conv_out.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    hook.remove()
    list(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    assert state.steps == expected
    assert same(weights(video_unet), weights(reference))


@pytest.fixture(params=[(), ("cpu",)], ids=["in a loop", "fused"])
def half_precision(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> TuningConfig:
    """To tune in float16, with its scaled loss, on the CPU, which is refused for its slowness alone.

    With the optimiser fused as on a GPU, which skips updates by itself, and not.
    """
    monkeypatch.setattr("tav_core.tuning.tune.LOSS_SCALING_DEVICES", ["cpu"])
    monkeypatch.setattr("tav_core.tuning.state.FUSED_DEVICES", request.param)
    return TuningConfig(steps=40, learning_rate=1e-2, compute_dtype=torch.float16)


@pytest.mark.filterwarnings("error")
def test_float16_skips_updates_that_overflow_and_lowers_the_scale(
    make_unet: MakeUNet, half_precision: TuningConfig
) -> None:
    video_unet = inflate(make_unet())
    state, bad = TuningState(video_unet, half_precision), iter([True, True])
    first = next(iter(state.parameters.values()))
    first.register_hook(lambda gradient: gradient * (torch.inf if next(bad, False) else 1))
    run, moved = tune(video_unet, LATENTS, TEXT, EPSILON, half_precision, state=state), []
    for _ in range(4):
        before = weights(video_unet)
        next(run)
        moved.append(not same(weights(video_unet), before))
    assert moved == [False, False, True, True]
    assert state.scaler.get_scale() == 2**14


def test_float16_raises_if_no_update_can_be_made(make_unet: MakeUNet, half_precision: TuningConfig) -> None:
    video_unet = inflate(make_unet())
    before = weights(video_unet)
    next(iter(trainable_parameters(video_unet).values())).register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(FloatingPointError, match="gradient of tuning step 17 is nan"):
        list(tune(video_unet, LATENTS, TEXT, EPSILON, half_precision))
    assert same(weights(video_unet), before)


def test_float16_loss_scale_is_resumed(make_unet: MakeUNet, half_precision: TuningConfig) -> None:
    video_unet = inflate(make_unet())
    state, bad = TuningState(video_unet, half_precision), iter([True])
    first = next(iter(state.parameters.values()))
    first.register_hook(lambda gradient: gradient * (torch.inf if next(bad, False) else 1))
    run = tune(video_unet, LATENTS, TEXT, EPSILON, half_precision, state=state)
    for _ in range(3):
        next(run)
    run.close()
    again = TuningState(inflate(make_unet()), half_precision)
    again.load_state_dict(state.state_dict(), state.steps)
    again.resume()
    assert again.scaler.state_dict() == state.scaler.state_dict()
    assert (state.scaler.get_scale(), state.scaler.state_dict()["_growth_tracker"]) == (2**15, 2)


def gradients_at_the_update(
    video_unet: VideoUNet, config: TuningConfig, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    seen = {}

    def update(state: TuningState, step: object) -> None:
        seen.update({name: parameter.grad.clone() for name, parameter in state.parameters.items()})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TuningState, "update", update)
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config))
    return seen


@pytest.mark.parametrize("compute_dtype", [None, torch.float16])
def test_the_gradient_of_all_weights_together_is_clipped(
    make_unet: MakeUNet,
    half_precision: TuningConfig,
    monkeypatch: pytest.MonkeyPatch,
    compute_dtype: torch.dtype | None,
) -> None:
    free, clipped = (
        gradients_at_the_update(
            inflate(make_unet()), TuningConfig(max_grad_norm=norm, compute_dtype=compute_dtype), monkeypatch
        )
        for norm in (1e9, 1e-3)
    )
    norm = torch.stack([gradient.norm() for gradient in free.values()]).norm()
    assert norm > 1e-2
    for name, gradient in free.items():
        torch.testing.assert_close(clipped[name], gradient * (1e-3 / norm), rtol=1e-3, atol=1e-9)


def test_earlier_gradients_are_ignored_and_none_remain(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, used = inflate(make_unet()), inflate(make_unet())
    for parameter in trainable_parameters(used).values():
        parameter.grad = torch.ones_like(parameter)
    first, second = (gradients_at_the_update(unet, TuningConfig(), monkeypatch) for unet in (clean, used))
    assert same(first, second)
    assert all(parameter.grad is None for parameter in trainable_parameters(used).values())


def test_options_reach_the_optimiser(make_unet: MakeUNet) -> None:
    config = TuningConfig(betas=(0.5, 0.6), eps=1e-3, weight_decay=0.2)
    (group,) = TuningState(inflate(make_unet()), config).optimizer.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == (config.betas, config.eps, config.weight_decay)


def test_float16_resumes_after_an_interruption_before_the_update(
    make_unet: MakeUNet, half_precision: TuningConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_unet = inflate(make_unet())
    state = TuningState(video_unet, half_precision)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("torch.nn.utils.clip_grad_norm_", interrupt)
        next(tune(video_unet, LATENTS, TEXT, EPSILON, half_precision, state=state))
    assert next(tune(video_unet, LATENTS, TEXT, EPSILON, half_precision, state=state)).step == 1
