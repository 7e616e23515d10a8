"""The memory estimate against what torch's allocator handed out in real steps of small UNets."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, T2IAdapter
from torch import Tensor
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tav_core import (
    Conditioning,
    HintControl,
    NoisePrediction,
    SamplingConfig,
    SourceBranch,
    TuningConfig,
    VideoUNet,
    estimate_memory,
    frames_that_fit,
    inflate,
    sample_with_source_branch,
    trainable_parameters,
    tune,
)
from tav_core.diffusion.denoiser import Denoiser
from tav_core.editing.sampling import guided_denoiser
from tav_core.memory import estimate
from tav_core.memory.budget import checkpointing_within
from tav_core.memory.estimate import _Step
from tav_core.memory.tracker import MemoryTracker
from tests.conftest import EPSILON, MakeUNet, draw

SIZE = dict(num_frames=4, height=16, width=16)
LATENTS, TEXT = draw(1, 4, 4, 16, 16), draw(1, 77, 12)
CONFIGS = {
    "sampling": SamplingConfig(),
    "sampling without guidance": SamplingConfig(guidance_scale=1.0),
    "sampling, prompt-to-prompt": SamplingConfig(cross_replace_steps=1.0, self_replace_steps=1.0),
    "tuning": TuningConfig(steps=3),
    "tuning, debiased": TuningConfig(steps=3, loss="debiased"),
    "tuning, selective checkpointing": TuningConfig(steps=3, gradient_checkpointing="selective"),
    "tuning, checkpointing": TuningConfig(steps=3, gradient_checkpointing=True),
    "tuning, two passes": TuningConfig(steps=3, gradient_accumulation_steps=2),
    "tuning, two passes, checkpointing": TuningConfig(
        steps=3, gradient_accumulation_steps=2, gradient_checkpointing=True
    ),
}


def allocated(video_unet: VideoUNet, config: TuningConfig | SamplingConfig, text: Tensor | Conditioning = TEXT) -> int:
    """Bytes alive at most during a step beyond those before it, from torch's profiler."""
    if isinstance(config, TuningConfig):
        steps = tune(video_unet, LATENTS, text, EPSILON, config)
        next(steps)  # the moments of AdamW are there from now on
        step = steps.__next__
    elif config.replaces:
        source = SourceBranch(LATENTS, TEXT)
        steps = sample_with_source_branch(video_unet, source, TEXT, TEXT, EPSILON, replace(config, propagate=False))
        next(steps)
        step = steps.__next__
    else:
        negative = None if config.guidance_scale == 1 else text
        denoiser = guided_denoiser(video_unet, text, negative, EPSILON, config)

        def step() -> object:
            with torch.no_grad():
                return denoiser(LATENTS, 500)

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
    """Some kernels allocate a buffer in each thread, which no estimate counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("shape", ["sd1", pytest.param("sd2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CONFIGS)
def test_activations_are_those_that_a_step_allocates(make_unet: MakeUNet, shape: str, name: str) -> None:
    video_unet = inflate(make_unet(shape))
    estimated = estimate_memory(video_unet, CONFIGS[name], **SIZE)
    tolerance = 5e-4 if "checkpointing" in name else 0.02  # where little is kept, a gradient is seen
    tolerance = 0.03 if CONFIGS[name] is CONFIGS["sampling, prompt-to-prompt"] else tolerance  # its own few latents
    assert estimated.activations == pytest.approx(allocated(video_unet, CONFIGS[name]), rel=tolerance)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "kind"), [("sampling", "adapter"), ("tuning", "adapter"), ("tuning", "controlnet")])
def test_a_control_is_in_the_plan(make_unet: MakeUNet, name: str, kind: str) -> None:
    """Sampling under a ControlNet peaks in convolutions at full size, where kernels of the CPU take buffers."""
    video_unet = inflate(make_unet())
    channels = list(video_unet.unet.config.block_out_channels)
    network = T2IAdapter(channels=channels) if kind == "adapter" else ControlNetModel.from_unet(make_unet())
    control = HintControl(network.requires_grad_(False), torch.rand(4, 128, 128, 3), 0.8, end=0.9)
    planned = estimate_memory(video_unet, CONFIGS[name], **SIZE, controls=[control])
    without = estimate_memory(video_unet, CONFIGS[name], **SIZE)
    own = sum(p.nbytes for p in network.parameters()) + control.hint.nbytes
    assert planned.weights - without.weights == own
    assert planned.flops > without.flops
    measured = allocated(video_unet, CONFIGS[name], Conditioning(TEXT, (control,)))
    assert planned.activations == pytest.approx(measured, rel=0.03)
    fitting = frames_that_fit(video_unet, CONFIGS[name], planned.peak, **SIZE, controls=[control])
    assert fitting == 4 > frames_that_fit(video_unet, CONFIGS[name], without.peak, **SIZE, controls=[control])


def test_flops_are_torchs_and_the_cpus_attention(make_unet: MakeUNet) -> None:
    video_unet, config = inflate(make_unet()), SamplingConfig(guidance_scale=1.0)
    estimated = estimate_memory(video_unet, config, **SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        guided_denoiser(video_unet, TEXT, None, EPSILON, config)(LATENTS, 500)
    # Scores and values of each attention: 4 x queries x keys x width. Three blocks have 16 x 16 positions and 16
    # channels, the middle one 8 x 8 and 32. Frames 1 and 2 see one frame, 3 and 4 two; all see 77 words, and each
    # position 4 frames.
    attention = sum(
        4 * count * channels * (6 * positions**2 + 4 * positions * (77 + 4))
        for count, positions, channels in ((3, 256, 16), (1, 64, 32))
    )
    assert estimated.flops == counter.get_total_flops() + attention


def test_estimating_changes_no_state(make_unet: MakeUNet) -> None:
    video_unet, random = inflate(make_unet()), torch.get_rng_state()
    before = {name: weight.clone() for name, weight in video_unet.state_dict().items()}
    with torch.inference_mode():
        estimate_memory(video_unet, CONFIGS["tuning, checkpointing"], **SIZE)
    assert all(torch.equal(weight, before[name]) for name, weight in video_unet.state_dict().items())
    assert all(parameter.grad is None for parameter in trainable_parameters(video_unet).values())
    assert not video_unet.context.checkpointing and torch.equal(torch.get_rng_state(), random)


def test_estimates_another_dtype_than_the_models(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    trained = sum(parameter.numel() for parameter in trainable_parameters(video_unet).values())
    total = sum(parameter.numel() for parameter in video_unet.parameters())
    full, half = (estimate_memory(video_unet, TuningConfig(), dtype=dtype, **SIZE) for dtype in (None, torch.bfloat16))
    assert (full.weights, half.weights) == (4 * total, 4 * trained + 2 * (total - trained))
    assert full.moments == half.moments == 8 * trained
    assert half.activations < 0.8 * full.activations and half.peak < full.peak


def test_checkpointing_trades_flops_for_memory(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    plain, selective, full = (
        estimate_memory(video_unet, CONFIGS[f"tuning{how}"], **SIZE)
        for how in ("", ", selective checkpointing", ", checkpointing")
    )
    assert full.activations < selective.activations < 0.5 * plain.activations
    assert plain.flops < selective.flops < full.flops < 1.3 * plain.flops
    assert selective.flops - plain.flops < 0.5 * (full.flops - plain.flops)


def test_accumulation_multiplies_flops_and_peaks_as_two_passes(make_unet: MakeUNet) -> None:
    one, two, ten = (
        estimate_memory(inflate(make_unet()), TuningConfig(gradient_accumulation_steps=passes), **SIZE)
        for passes in (1, 2, 10)
    )
    assert one.activations < two.activations == ten.activations
    assert (two.flops, ten.flops) == (2 * one.flops, 10 * one.flops)


@pytest.mark.parametrize("name", CONFIGS)
def test_flops_are_those_of_a_real_step(make_unet: MakeUNet, name: str) -> None:
    """The estimate leaves the optimiser out; here it is not run."""
    video_unet, config = inflate(make_unet()), CONFIGS[name]
    step = _Step(video_unet, config, config.objective if isinstance(config, TuningConfig) else None)
    with MemoryTracker() as tracker:
        step(LATENTS, TEXT, {})
    assert tracker.flops and step.scale_to_all_passes(tracker.flops) == pytest.approx(
        estimate_memory(video_unet, config, **SIZE).flops, rel=0.02
    )


class KeepsATensor:
    """The published loss, weighted by a tensor of its own, which keeps so many numbers until its next call."""

    def __init__(self, numbers: int):
        self.numbers, self.weight = numbers, torch.ones(1)
        self.kept: Tensor | None = None

    def __call__(self, denoiser: Denoiser, sample: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        self.kept = sample.new_zeros(self.numbers)
        return (NoisePrediction()(denoiser, sample, noise, t) * self.weight).sum()


def test_an_objective_that_keeps_a_tensor_raises_the_plan_by_it(make_unet: MakeUNet) -> None:
    video_unet, numbers = inflate(make_unet()), 10_000_000
    objective = KeepsATensor(numbers)
    without, kept = (
        estimate_memory(video_unet, TuningConfig(), **SIZE, objective=each) for each in (KeepsATensor(0), objective)
    )
    assert kept.activations - without.activations == 4 * numbers
    assert (kept.weights, kept.moments) == (without.weights, without.moments)
    assert objective.kept is None, "a dry run leaves the objective as it was"


@pytest.mark.slow
def test_plans_follow_the_objective(make_unet: MakeUNet) -> None:
    video_unet, config, large = inflate(make_unet()), TuningConfig(), KeepsATensor(10**8)
    budget = estimate_memory(video_unet, config, **SIZE).without_weights
    assert checkpointing_within(video_unet, LATENTS, config, budget) is False
    assert checkpointing_within(video_unet, LATENTS, config, budget, objective=large) is True
    most = dict(memory=budget, **SIZE)
    assert frames_that_fit(video_unet, config, **most) > frames_that_fit(video_unet, config, **most, objective=large)


def test_the_same_estimate_is_made_once(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """For another model of the same architecture too; not for another size, option or architecture."""
    monkeypatch.setattr(estimate, "_estimates", {})
    made = []
    monkeypatch.setattr(estimate, "_dry_run", lambda *given: made.append(given) or len(made))
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


SLOW = ("sampling", "tuning", "tuning, selective checkpointing")  # sampling and tuning both stay in the fast tests


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in list(CONFIGS)[:6]]
)
@pytest.mark.slow
def test_frames_that_fit_is_the_most(make_unet: MakeUNet, name: str) -> None:
    video_unet, config, size = inflate(make_unet()), CONFIGS[name], dict(height=16, width=16)
    memory = estimate_memory(video_unet, config, num_frames=5, **size).peak
    assert frames_that_fit(video_unet, config, memory, num_frames=9, **size) == 5
    assert frames_that_fit(video_unet, config, memory, num_frames=3, **size) == 3
    assert frames_that_fit(video_unet, config, memory / 10, num_frames=9, **size) == 0


@pytest.mark.slow
def test_frames_that_fit_with_one_pass_for_each_prompt(make_unet: MakeUNet) -> None:
    """At 9 frames the batch of two prompts ends, and with it most of the peak."""
    video_unet, config, size = inflate(make_unet()), SamplingConfig(), dict(height=32, width=32)
    peaks = {frames: estimate_memory(video_unet, config, num_frames=frames, **size).peak for frames in (7, 8, 9, 10)}
    assert peaks[9] < peaks[10] < peaks[7] < peaks[8]
    assert frames_that_fit(video_unet, config, peaks[10], num_frames=12, **size) == 10
    assert frames_that_fit(video_unet, config, peaks[7], num_frames=8, **size) == 7
    assert frames_that_fit(video_unet, config, peaks[9] - 1, num_frames=12, **size) < 8


def test_tracker_counts_a_product_and_an_attention() -> None:
    first, second = torch.ones(3, 5), torch.ones(5, 7)
    with MemoryTracker() as tracker:
        product = first @ second
    assert tracker.flops == 2 * 3 * 5 * 7
    assert tracker.alive == tracker.peak == product.nbytes == 84
    queries, keys, values = (torch.ones(2, 3, count, 8, requires_grad=True) for count in (4, 6, 6))
    with MemoryTracker() as tracker:
        attended = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
        forward = tracker.flops
        attended.sum().backward()
    product = 2 * 2 * 3 * 4 * 6 * 8
    assert (forward, tracker.flops) == (2 * product, 7 * product)


def test_guidance_at_high_noise_alone_is_estimated(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    high_noise = estimate_memory(video_unet, SamplingConfig(guidance_scale=1.0, high_noise_guidance_scale=4.0), **SIZE)
    assert high_noise == estimate_memory(video_unet, SamplingConfig(), **SIZE)
    assert high_noise.flops > 1.9 * estimate_memory(video_unet, SamplingConfig(guidance_scale=1.0), **SIZE).flops
