"""Gradients that go into the moments as they come: torch's AdamW, with less to keep."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tav_core.tuning
from tav_core import TuningConfig, inflate, trainable_parameters, tune
from tav_core.gathering import GatheringAdamW, gathers
from tav_core.tuning_state import TuningState
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
    gathering, reference = GatheringAdamW(ours, **OPTIONS), torch.optim.AdamW(theirs, foreach=False, **OPTIONS)
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


def test_what_was_taken_before_a_far_larger_gradient_came_moves_its_weight_no_further_than_that() -> None:
    """By so small a factor rounding leaves nothing of a square that is clipped later."""
    first, second = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    gathering, order = GatheringAdamW([first, second], **OPTIONS), []
    first.register_hook(lambda _: order.append("first"))
    second.register_hook(lambda _: order.append("second"))

    def way() -> float:
        far_larger = second * 1e7
        (far_larger + first * torch.tensor([0.1, 0.01, -0.3])).sum().backward()
        return 0.0

    gathering.gather(way, 1.0)
    gathering.step()
    assert order == ["first", "second"] * 2
    for weight in (first, second):
        assert 0 < weight.detach().abs().max() < 1.01 * OPTIONS["lr"]


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


def interrupt(*_: object) -> None:
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


@pytest.mark.parametrize("where", ["on the way back", "when it is clipped"])
def test_a_step_that_breaks_off_with_gradients_taken_gives_no_state(
    make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    video_unet, norms = inflate(make_unet()), []
    gather = TuningState.gather
    with monkeypatch.context() as patch:
        patch.setattr(TuningState, "gather", lambda *given: norms.append(gather(*given)[1]) or (0.0, norms[0]))
        next(tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, TuningConfig(**LEAST)))
    config = TuningConfig(**LEAST, max_grad_norm=0.9 * float(norms[0]))
    state = TuningState(video_unet, config)
    before = {name: weight.clone() for name, weight in state.weights().items()}
    if where == "on the way back":
        next(iter(state.parameters.values())).register_hook(interrupt)
    else:
        monkeypatch.setattr(GatheringAdamW, "_clip_later", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    assert all(torch.equal(weight, before[name]) for name, weight in state.weights().items())
    assert all(parameter.grad is None for parameter in video_unet.parameters())
    with pytest.raises(RuntimeError, match="broke off"):
        state.state_dict()
    with pytest.raises(RuntimeError, match="broke off"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))


def test_a_gradient_that_is_not_finite_moves_no_weight(make_unet: MakeUNet) -> None:
    video_unet, config = inflate(make_unet()), TuningConfig(**LEAST)
    state = TuningState(video_unet, config)
    before = {name: weight.clone() for name, weight in state.weights().items()}
    list(state.parameters.values())[5].register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(FloatingPointError, match="gradient of tuning step 1 is nan"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    assert all(torch.equal(weight, before[name]) for name, weight in state.weights().items()) and not state.whole
