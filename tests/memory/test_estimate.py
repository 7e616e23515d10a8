"""The planner against what torch's allocator handed out in real steps of small UNets."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, replace
from typing import Any

import pytest
import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tav_core import (
    MemoryEstimate,
    Rates,
    SamplingConfig,
    TuningConfig,
    VideoUNet,
    estimate_memory,
    frames_that_fit,
    inflate,
    rates,
    trainable_parameters,
    tune,
)
from tav_core.editing.sampling import guided_prediction
from tav_core.memory import estimate as planner
from tav_core.memory.estimate import _DryRun
from tav_core.memory.tracker import MemoryTracker, Work
from tests.conftest import EPSILON, MakeUNet, draw

SIZE = dict(num_frames=4, height=16, width=16)
LATENTS, TEXT = draw(1, 4, 4, 16, 16), draw(1, 77, 12)
CONFIGS = {
    "sampling": SamplingConfig(),
    "sampling without guidance": SamplingConfig(guidance_scale=1.0),
    "tuning": TuningConfig(steps=3),
    "tuning, selective checkpointing": TuningConfig(steps=3, gradient_checkpointing="selective"),
    "tuning, checkpointing": TuningConfig(steps=3, gradient_checkpointing=True),
    "tuning, two passes": TuningConfig(steps=3, gradient_accumulation_steps=2),
    "tuning, two passes, checkpointing": TuningConfig(
        steps=3, gradient_accumulation_steps=2, gradient_checkpointing=True
    ),
}


def allocated(video_unet: VideoUNet, config: TuningConfig | SamplingConfig) -> int:
    """Bytes alive at most during a step beyond those before it, as torch's profiler saw them come and go."""
    if isinstance(config, TuningConfig):
        steps = tune(video_unet, LATENTS, TEXT, EPSILON, config)
        next(steps)  # the moments of AdamW are there from now on
        step = steps.__next__
    else:
        negative = None if config.guidance_scale == 1 else TEXT

        def step() -> object:
            with torch.no_grad():
                return guided_prediction(video_unet, LATENTS, 500, TEXT, negative, config)

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    alive: dict[int, int] = {}
    now = peak = 0
    for event in sorted(_allocations(profiled), key=lambda event: event.start_time_ns):
        _, block = event.typed
        if block.alloc_size > 0:
            alive[block.ptr] = block.alloc_size
            now += block.alloc_size
        else:
            # The profiler also reports what was there before, where an earlier profile had seen the same address.
            now -= alive.pop(block.ptr, 0)
        peak = max(peak, now)
    return peak


def _allocations(profiled: profile) -> Iterator[Any]:
    events = list(profiled.profiler.kineto_results.experimental_event_tree())
    while events:
        event = events.pop()
        events.extend(event.children)
        if event.tag == _EventType.Allocation:
            yield event


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Some kernels take a buffer in each thread, which no plan counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("shape", ["sd1", "sd2"])
@pytest.mark.parametrize("name", CONFIGS)
def test_predicts_what_a_step_allocates(make_unet: MakeUNet, shape: str, name: str) -> None:
    video_unet = inflate(make_unet(shape))
    planned = estimate_memory(video_unet, CONFIGS[name], **SIZE)
    tolerance = 5e-4 if "checkpointing" in name else 0.02  # where little is kept, a gradient is seen
    assert planned.activations == pytest.approx(allocated(video_unet, CONFIGS[name]), rel=tolerance)


def test_gradients_that_are_kept_count(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a size at which weights outweigh activations. Float16 keeps them, by autocast and at rest."""
    video_unet, least = inflate(make_unet()), TuningConfig(gradient_checkpointing=True)
    kinds = [(least, None), (replace(least, compute_dtype=torch.float16), None), (least, torch.float16)]

    def planned() -> list[int]:
        monkeypatch.setattr(planner, "_plans", {})
        size = dict(num_frames=1, height=2, width=2)
        return [estimate_memory(video_unet, config, dtype=dtype, **size).activations for config, dtype in kinds]

    gathered = planned()
    monkeypatch.setattr(planner, "gathers", lambda *_: False)
    kept = planned()
    assert gathered[0] < 0.8 * kept[0] and gathered[1:] == kept[1:]


def test_counts_the_arithmetic_of_torch_and_the_attention_of_the_cpu(make_unet: MakeUNet) -> None:
    video_unet, config = inflate(make_unet()), SamplingConfig(guidance_scale=1.0)
    planned = estimate_memory(video_unet, config, **SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        guided_prediction(video_unet, LATENTS, 500, TEXT, None, config)
    # Scores and values of each attention: 4 x queries x keys x width. Three blocks have 16 x 16 positions and 16
    # channels, the middle one 8 x 8 and 32. Frames 1 and 2 see one frame, 3 and 4 two; all see 77 words, and each
    # position 4 frames.
    attention = sum(
        4 * count * channels * (6 * positions**2 + 4 * positions * (77 + 4))
        for count, positions, channels in ((3, 256, 16), (1, 64, 32))
    )
    assert planned.flops == counter.get_total_flops() + attention


def test_a_plan_touches_nothing(make_unet: MakeUNet) -> None:
    video_unet, random = inflate(make_unet()), torch.get_rng_state()
    before = {name: weight.clone() for name, weight in video_unet.state_dict().items()}
    with torch.inference_mode():
        estimate_memory(video_unet, CONFIGS["tuning, checkpointing"], **SIZE)
    assert all(torch.equal(weight, before[name]) for name, weight in video_unet.state_dict().items())
    assert all(parameter.grad is None for parameter in trainable_parameters(video_unet).values())
    assert not video_unet.context.checkpointing and torch.equal(torch.get_rng_state(), random)


def test_plans_another_type_than_the_models(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    trained = sum(parameter.numel() for parameter in trainable_parameters(video_unet).values())
    total = sum(parameter.numel() for parameter in video_unet.parameters())
    full, half = (estimate_memory(video_unet, TuningConfig(), dtype=dtype, **SIZE) for dtype in (None, torch.bfloat16))
    assert (full.weights, half.weights) == (4 * total, 4 * trained + 2 * (total - trained))
    assert full.moments == half.moments == 8 * trained
    assert half.activations < 0.8 * full.activations and half.peak < full.peak


def test_checkpointing_trades_arithmetic_for_memory(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    plain, selective, full = (estimate_memory(video_unet, CONFIGS[name], **SIZE) for name in list(CONFIGS)[2:5])
    assert full.activations < selective.activations < 0.5 * plain.activations
    assert plain.flops < selective.flops < full.flops < 1.3 * plain.flops
    assert selective.flops - plain.flops < 0.5 * (full.flops - plain.flops)


def test_the_work_of_many_passes_is_many_times_that_of_one_and_the_peak_that_of_two(make_unet: MakeUNet) -> None:
    one, two, ten = (
        estimate_memory(inflate(make_unet()), TuningConfig(gradient_accumulation_steps=passes), **SIZE)
        for passes in (1, 2, 10)
    )
    assert one.activations < two.activations == ten.activations
    assert (two.flops, ten.flops) == (2 * one.flops, 10 * one.flops)


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_the_work_that_a_real_step_does(make_unet: MakeUNet, name: str) -> None:
    """Where no tensor has storage, as where all have. The plan leaves the optimiser out, here it is not run."""
    video_unet, config = inflate(make_unet()), CONFIGS[name]
    with MemoryTracker() as ledger:
        _DryRun(video_unet, config)(LATENTS, TEXT)
    real, planned = asdict(ledger.work), asdict(estimate_memory(video_unet, config, **SIZE).work)
    assert all(planned[kind] == pytest.approx(amount, rel=0.02) and amount for kind, amount in real.items())


def test_time_is_a_sum_over_the_kinds_of_work() -> None:
    work = Work(flops=1, bytes=20, scores=300, weight_bytes=4000, operations=50000)
    assert Rates(1.0, 0.1, 0.01, 0.001, 0.0001).seconds(work) == pytest.approx(1 + 2 + 3 + 4 + 5)
    planned = MemoryEstimate(weights=0, moments=0, activations=0, work=work)
    assert planned.seconds(Rates(0.0, 0.0, 0.0, 0.0, 1.0)) == 50000


def test_rates_are_solved_from_programs_of_known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that runs by the work done gives its own rates back, and the global generator stands still."""
    true, random = Rates(1e-11, 1e-10, 1e-9, 5e-10, 1e-5), torch.get_rng_state()

    def timed(probe: Callable[[], object], device: torch.device) -> float:
        with MemoryTracker() as ledger:
            probe()
        return true.seconds(ledger.work)

    monkeypatch.setattr(rates, "_timed", timed)
    monkeypatch.setattr(rates, "ROUNDS", 1)
    assert astuple(rates.measure_rates()) == pytest.approx(astuple(true), rel=1e-3)
    assert torch.equal(torch.get_rng_state(), random)


def test_the_same_plan_is_made_once(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """For another model of the same make too; not for another size, option or make."""
    monkeypatch.setattr(planner, "_plans", {})
    made = []
    monkeypatch.setattr(planner, "_made", lambda *given: made.append(given) or len(made))
    first, second = inflate(make_unet()), inflate(make_unet())
    assert (
        estimate_memory(first, TuningConfig(steps=3), **SIZE)
        == estimate_memory(second, TuningConfig(steps=9, seed=1), **SIZE)
        == 1
    )
    for video_unet, config, size in (
        (first, TuningConfig(gradient_checkpointing=True), SIZE),
        (first, TuningConfig(gradient_checkpointing="selective"), SIZE),
        (first, TuningConfig(gradient_accumulation_steps=2), SIZE),
        (first, SamplingConfig(), SIZE),
        (first, SamplingConfig(guidance_scale=1.0), SIZE),
        (first, SamplingConfig(guidance_rescale=0.7), SIZE),
        (first, TuningConfig(compute_dtype=torch.bfloat16), SIZE),
        (first, TuningConfig(), SIZE | dict(height=8)),
        (first, TuningConfig(), SIZE | dict(dtype=torch.bfloat16)),
        (inflate(make_unet(), group_norm="frame"), TuningConfig(), SIZE),
        (inflate(make_unet(), attention="per_frame"), TuningConfig(), SIZE),
        (inflate(make_unet(), temporal_positions=True), TuningConfig(), SIZE),
        (inflate(make_unet("sd2")), TuningConfig(), SIZE),
    ):
        count = len(made)
        assert estimate_memory(video_unet, config, **size) == estimate_memory(video_unet, config, **size) == count + 1


@pytest.mark.parametrize("name", list(CONFIGS)[:5])
def test_one_frame_more_than_fit_does_not_fit(make_unet: MakeUNet, name: str) -> None:
    video_unet, config, size = inflate(make_unet()), CONFIGS[name], dict(height=16, width=16)
    memory = estimate_memory(video_unet, config, num_frames=5, **size).peak
    assert frames_that_fit(video_unet, config, memory, num_frames=9, **size) == 5
    assert frames_that_fit(video_unet, config, memory, num_frames=3, **size) == 3
    assert frames_that_fit(video_unet, config, memory / 10, num_frames=9, **size) == 0


def test_frames_that_fit_with_one_prompt_after_the_other_are_found(make_unet: MakeUNet) -> None:
    """At 9 frames the batch of two prompts ends, and with it most of the peak."""
    video_unet, config, size = inflate(make_unet()), SamplingConfig(), dict(height=32, width=32)
    peaks = {frames: estimate_memory(video_unet, config, num_frames=frames, **size).peak for frames in (7, 8, 9, 10)}
    assert peaks[9] < peaks[10] < peaks[7] < peaks[8]
    assert frames_that_fit(video_unet, config, peaks[10], num_frames=12, **size) == 10
    assert frames_that_fit(video_unet, config, peaks[7], num_frames=8, **size) == 7
    assert frames_that_fit(video_unet, config, peaks[9] - 1, num_frames=12, **size) < 8


def test_a_ledger_counts_a_product_and_an_attention_as_one_does_by_hand() -> None:
    first, second = torch.ones(3, 5), torch.ones(5, 7)
    with MemoryTracker() as ledger:
        product = first @ second
    assert ledger.work == Work(flops=2 * 3 * 5 * 7, bytes=4 * (15 + 35 + 21), operations=1)
    assert ledger.alive == ledger.peak == product.nbytes == 84
    queries, keys, values = (torch.ones(2, 3, count, 8, requires_grad=True) for count in (4, 6, 6))
    with MemoryTracker() as ledger:
        attended = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
        there = replace(ledger.work)
        attended.sum().backward()
    scores, product = 2 * 3 * 4 * 6, 2 * 2 * 3 * 4 * 6 * 8
    assert (there.scores, there.flops) == (scores, 2 * product)
    assert (ledger.work.scores, ledger.work.flops) == (3 * scores, 7 * product)


def test_guidance_in_a_part_of_the_steps_is_planned_for(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    early = estimate_memory(video_unet, SamplingConfig(guidance_scale=1.0, high_noise_guidance_scale=4.0), **SIZE)
    assert early == estimate_memory(video_unet, SamplingConfig(), **SIZE)
    assert early.flops > 1.9 * estimate_memory(video_unet, SamplingConfig(guidance_scale=1.0), **SIZE).flops
