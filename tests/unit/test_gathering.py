"""Gradients that go into the moments as they come: torch's AdamW, with less to keep."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tav_core.tuning
from tav_core import Store, TuningConfig, inflate, trainable_parameters, tune
from tav_core.gathering import GatheringAdamW, gathers, gradients_given_to
from tav_core.tuning.state import TuningState
from tests.conftest import EPSILON, MakeUNet, draw

LATENTS, TEXT = draw(1, 4, 2, 4, 4), draw(1, 5, 12, seed=1)
OPTIONS = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
LEAST = dict(steps=3, learning_rate=1e-2, gradient_checkpointing=True)
SIZES = ((3, 5), (7,), (2, 2, 4))


def made() -> list[nn.Parameter]:
    return [nn.Parameter(draw(*size, seed=seed)) for seed, size in enumerate(SIZES)]


def way_of(parameters: list[nn.Parameter], scale: float, seed: int, calls: list[int]) -> Callable[[], float]:
    """A loss whose gradient is drawn, of about so large a norm."""
    gradients = [scale * draw(*p.shape, seed=100 * seed + index) for index, p in enumerate(parameters)]

    def way() -> float:
        calls.append(1)
        loss = sum((p * gradient).sum() for p, gradient in zip(parameters, gradients, strict=True))
        assert isinstance(loss, Tensor)
        loss.backward()
        return float(loss.detach())

    return way


@pytest.mark.parametrize(
    ("scales", "ways"),
    [
        ([1e-2] * 4, 4),
        ([1.0] * 4, 8),
        ([0.2] * 4, 8),
        ([1e-2, 1e-2, 30.0, 1e-2], 5),
        ([1e-2, 1e6, 1e-2, 1e-2], 5),
        ([1e6, 1e-2, 1e-2, 1e-2], 5),
    ],
    ids=["never clipped", "always clipped", "always and little", "once", "by far", "by far at first"],
)
def test_is_the_adamw_of_torch_after_clipping(scales: list[float], ways: int) -> None:
    ours, theirs, calls = made(), made(), []
    gathering, reference = (
        GatheringAdamW(ours, gathering=True, **OPTIONS),
        torch.optim.AdamW(theirs, foreach=False, **OPTIONS),
    )
    for seed, scale in enumerate(scales):
        loss, norm = gathering.gather(way_of(ours, scale, seed, calls), 1.0)
        gathering.step()
        assert loss == pytest.approx(way_of(theirs, scale, seed, [])(), rel=1e-5)
        assert float(norm) == pytest.approx(float(nn.utils.clip_grad_norm_(theirs, 1.0)), rel=1e-6)
        reference.step()
        reference.zero_grad()
        for p, q in zip(ours, theirs, strict=True):
            assert (p - q).abs().max() <= (0 if ways == 4 else 1e-4 * OPTIONS["lr"])
    assert len(calls) == ways


@pytest.mark.parametrize("ratio", [1e1, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("updates_before", [0, 1, 3])
def test_what_was_taken_before_a_far_larger_gradient_came_is_clipped_by_any_factor(
    ratio: float, updates_before: int
) -> None:
    """By rounding a small factor leaves little of a square; of a first one it would leave nothing."""
    (ours, theirs), order = ([nn.Parameter(torch.zeros(3)) for _ in range(2)] for _ in range(2)), []
    gathering, reference = GatheringAdamW(ours, gathering=True, **OPTIONS), torch.optim.AdamW(theirs, **OPTIONS)
    for index, weight in enumerate(ours):
        weight.register_hook(lambda _, index=index: order.append(index))

    def way_of(weights: list[nn.Parameter], larger: float) -> Callable[[], float]:
        def way() -> float:
            far_larger = weights[1] * larger
            (far_larger + weights[0] * torch.tensor([0.1, 0.01, -0.3])).sum().backward()
            return 0.0

        return way

    for larger in [0.1] * updates_before + [ratio]:
        gathering.gather(way_of(ours, larger), 1.0)
        gathering.step()
        way_of(theirs, larger)()
        nn.utils.clip_grad_norm_(theirs, 1.0)
        reference.step()
        reference.zero_grad()
    assert order == [0, 1] * (updates_before + 2)
    for our, their in zip(ours, theirs, strict=True):
        assert (our - their).abs().max() < 1e-3 * OPTIONS["lr"]


@pytest.mark.parametrize(("before", "small", "larger"), [(3, 1e-4, 1e6), (30, 1e-4, 1e4), (3, 1e-3, 1e3)])
def test_small_gradients_before_a_far_larger_one_do_not_make_the_weight_leap(
    before: int, small: float, larger: float
) -> None:
    """Rounding leaves little of their squares. No gradients at all make Adam move a weight by 7.3 learning rates."""
    direction = draw(4000) / draw(4000).norm()
    first, second = nn.Parameter(torch.zeros(4000)), nn.Parameter(torch.zeros(3))
    gathering = GatheringAdamW([first, second], gathering=True, **OPTIONS | dict(weight_decay=0.0))
    for scale, other in [(small, 1e-3)] * before + [(0.9, larger)] + [(small, 1e-3)] * 2:

        def way(scale: float = scale, other: float = other) -> float:
            ((second * other).sum() + (first * direction * scale).sum()).backward()
            return 0.0

        old = first.detach().clone()
        gathering.gather(way, 1.0)
        gathering.step()
        assert (first - old).abs().max() < 2 * OPTIONS["lr"]


@pytest.mark.parametrize(("bound", "scale"), [(4.0, 0.55), (0.3, 0.02)])
def test_is_clipped_to_any_bound(bound: float, scale: float) -> None:
    ours, theirs, calls = made(), made(), []
    gathering, reference = GatheringAdamW(ours, gathering=True, **OPTIONS), torch.optim.AdamW(theirs, **OPTIONS)
    for seed in range(3):
        way_of(theirs, scale, seed, [])()
        norm = nn.utils.clip_grad_norm_(theirs, bound)
        assert bound**0.5 < norm < bound or bound**2 < norm < bound, "within the bound, not within its root or square"
        reference.step()
        reference.zero_grad()
        gathering.gather(way_of(ours, scale, seed, calls), bound)
        gathering.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q)
    assert len(calls) == 3


def test_no_gradient_at_all_moves_nothing() -> None:
    ours = made()
    gathering = GatheringAdamW(ours, gathering=True, **OPTIONS | dict(weight_decay=0.0))
    _, norm = gathering.gather(way_of(ours, 0.0, 0, []), 1.0)
    gathering.step()
    assert norm == 0 and all(torch.equal(p, q) for p, q in zip(ours, made(), strict=True))


@pytest.mark.parametrize("moment", ["lerp_", "mul_"])
def test_moments_that_changed_by_half_are_not_whole(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = made()
    gathering = GatheringAdamW(ours, gathering=True, **OPTIONS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tensor, moment, interrupt)
        gathering.gather(way_of(ours, 1e-2, 0, []), 1.0)
    assert not gathering.whole


def test_can_be_copied_in_the_midst_of_an_update() -> None:
    ours = made()
    ours[0].register_hook(interrupt)
    gathering = GatheringAdamW(ours, gathering=True, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        gathering.gather(way_of(ours, 1e-2, 0, []), 1.0)
    weights, copied = deepcopy((ours, gathering))
    assert 0 < len(copied.taken) < len(weights) and copied.whole and copied.gathering
    assert {id(weight) for weight in copied.taken} <= {id(weight) for weight in weights}


def test_no_gradient_waits_for_another(make_unet: MakeUNet) -> None:
    waiting: dict[bool, int] = {}
    for checkpointing in (False, True):
        video_unet = inflate(make_unet())
        config = TuningConfig(steps=1, gradient_checkpointing=checkpointing)
        parameters = list(trainable_parameters(video_unet).values())
        seen = [0]

        def look(_: Tensor, seen: list[int] = seen, parameters: list[nn.Parameter] = parameters) -> None:
            seen.append(sum(parameter.grad is not None for parameter in parameters))

        for parameter in parameters:
            parameter.register_hook(look)
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config))
        waiting[checkpointing] = max(seen)
    assert waiting == {False: len(parameters) - 1, True: 0}


@pytest.mark.parametrize(
    ("options", "dtype", "expected"),
    [
        ({"gradient_checkpointing": True}, torch.float32, True),
        ({"gradient_checkpointing": True}, torch.bfloat16, True),
        ({"gradient_checkpointing": True}, torch.float16, False),
        ({"gradient_checkpointing": True, "compute_dtype": torch.float16}, torch.float32, False),
        ({"gradient_checkpointing": True, "gradient_accumulation_steps": 2}, torch.float32, False),
        ({"gradient_checkpointing": "selective"}, torch.float32, False),
        ({}, torch.float32, False),
    ],
    ids=str,
)
def test_where_memory_is_to_be_least(options: dict[str, object], dtype: torch.dtype, expected: bool) -> None:
    assert gathers(TuningConfig(**options), dtype) is expected


@pytest.mark.parametrize(("bound", "passes"), [(1e9, 3), (1e-3, 6)])
def test_tunes_to_the_same_weights_clipped_and_not(
    make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch, bound: float, passes: int
) -> None:
    loss, calls = tav_core.tuning._loss, []
    monkeypatch.setattr(tav_core.tuning, "_loss", lambda *given: calls.append(1) or loss(*given))
    plain, least = inflate(make_unet()), inflate(make_unet())
    expected = list(tune(plain, LATENTS, TEXT, EPSILON, TuningConfig(steps=3, learning_rate=1e-2, max_grad_norm=bound)))
    calls.clear()
    got = list(tune(least, LATENTS, TEXT, EPSILON, TuningConfig(**LEAST, max_grad_norm=bound)))
    assert len(calls) == passes
    assert [step.loss for step in got] == pytest.approx([step.loss for step in expected], rel=1e-5)
    for ours, theirs in zip(least.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_step_that_breaks_off_before_a_gradient_is_taken_is_made_again(make_unet: MakeUNet) -> None:
    video_unet, config = inflate(make_unet()), TuningConfig(**LEAST)
    state = TuningState(video_unet, config)
    hook = video_unet.unet.conv_out.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    hook.remove()
    (expected, *_), (got, *_) = (
        list(tune(unet, LATENTS, TEXT, EPSILON, config, state=kept))
        for unet, kept in ((inflate(make_unet()), None), (video_unet, state))
    )
    assert got == expected


def test_a_step_that_breaks_off_while_it_is_clipped_gives_no_state(
    make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_unet, norms = inflate(make_unet()), []
    gather = TuningState.gather
    with monkeypatch.context() as patch:
        patch.setattr(TuningState, "gather", lambda *given: norms.append(gather(*given)[1]) or (0.0, norms[0]))
        next(tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, TuningConfig(**LEAST)))
    config = TuningConfig(**LEAST, max_grad_norm=0.9 * float(norms[0]))
    state = TuningState(video_unet, config)
    before = {name: weight.clone() for name, weight in state.weights().items()}
    monkeypatch.setattr(GatheringAdamW, "_clip_later", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    assert all(torch.equal(weight, before[name]) for name, weight in state.weights().items())
    with pytest.raises(RuntimeError, match="broke off"):
        state.state_dict()
    with pytest.raises(RuntimeError, match="broke off"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), torch.OutOfMemoryError("injected"), torch.nan], ids=str)
@pytest.mark.parametrize("bound", [1e9, 1e-3])
@pytest.mark.parametrize("level", [True, "selective"])
def test_a_tuning_that_breaks_off_on_the_way_back_goes_on_from_the_store_at_any_level(
    make_unet: MakeUNet, tmp_path: Path, fault: BaseException | float, bound: float, level: bool | str
) -> None:
    store, config = Store(tmp_path), TuningConfig(**LEAST, max_grad_norm=bound)
    expected, got = inflate(make_unet()), inflate(make_unet())
    steps = list(tune(expected, LATENTS, TEXT, EPSILON, config))
    broken, backward = inflate(make_unet()), []

    def break_off(gradient: Tensor) -> Tensor | None:
        backward.append(1)
        if len(backward) < (5 if bound < 1 else 3):  # each clipped update goes back twice
            return None
        if isinstance(fault, float):
            return gradient * fault
        raise fault

    list(trainable_parameters(broken).values())[9].register_hook(break_off)
    kind = FloatingPointError if isinstance(fault, float) else type(fault)
    with pytest.raises(kind):
        list(store.tune(broken, LATENTS, TEXT, EPSILON, config))
    run = store.tune(got, LATENTS, TEXT, EPSILON, replace(config, gradient_checkpointing=level))
    assert run.steps == steps[:2]
    list(run)
    rounding = 0 if bound > 1 else 1e-4 * config.learning_rate
    assert run.steps[2].loss == pytest.approx(steps[2].loss, rel=1e-5 if rounding else 0)
    assert all((a - b).abs().max() <= rounding for a, b in zip(got.parameters(), expected.parameters(), strict=True))


def test_a_state_of_another_level_is_refused(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    with pytest.raises(ValueError, match="made for another config"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, state=TuningState(video_unet, TuningConfig(**LEAST))))


def test_a_hook_that_an_interruption_left_behind_takes_no_gradient() -> None:
    parameter, received = nn.Parameter(torch.ones(2)), []

    class Stubborn(nn.Parameter):
        def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> object:
            self.handle = super().register_post_accumulate_grad_hook(hook)
            raise KeyboardInterrupt

    parameter = Stubborn(torch.ones(2))
    with pytest.raises(KeyboardInterrupt), gradients_given_to(lambda *given: received.append(given), [parameter]):
        pass
    parameter.sum().backward()
    assert not received and torch.equal(parameter.grad, torch.ones(2))


def test_a_parameter_without_a_gradient_stays() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    gathering = GatheringAdamW([used, unused], gathering=True, **OPTIONS)

    def way() -> float:
        used.sum().backward()
        return 0.0

    gathering.gather(way, 1.0)
    gathering.step()
    assert torch.equal(unused, torch.ones(2)) and (used < 1).all()


@pytest.mark.parametrize("level", [True, "selective"])
def test_a_parameter_that_is_behind_does_not_make_the_others_taken(make_unet: MakeUNet, level: bool | str) -> None:
    """One that never had a gradient. Taken is what is ahead of the updates made."""
    config, video_unet = TuningConfig(**LEAST | dict(gradient_checkpointing=level)), inflate(make_unet())
    state = TuningState(video_unet, config)
    next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    kept, steps = {name: tensor.clone() for name, tensor in state.state_dict().items()}, list(state.steps)
    for updates, taken in ((0, []), (2, [list(state.parameters.values())[4]])):
        kept["updates"][4] = updates
        state.load_state_dict(kept, steps)
        assert list(state.optimizer.taken) == taken


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_gradient_that_is_not_finite_moves_no_weight(make_unet: MakeUNet, number: str) -> None:
    video_unet, config = inflate(make_unet()), TuningConfig(**LEAST)
    state = TuningState(video_unet, config)
    before = {name: weight.clone() for name, weight in state.weights().items()}
    list(state.parameters.values())[5].register_hook(lambda gradient: torch.full_like(gradient, float(number)))
    with pytest.raises(FloatingPointError, match=f"gradient of tuning step 1 is {number}"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    assert all(torch.equal(weight, before[name]) for name, weight in state.weights().items()) and state.whole
