"""Tuning on windows of a long clip."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tav_core import (
    Denoiser,
    NoisePrediction,
    NoiseSchedule,
    Store,
    TuningConfig,
    VideoUNet,
    estimate_memory,
    inflate,
    trainable_parameters,
    tune,
)
from tav_core.tuning.state import TuningState
from tests.conftest import EPSILON, MakeUNet, draw

FRAMES, LENGTH = 6, 3
LATENTS, TEXT = draw(1, 4, FRAMES, 6, 6), draw(1, 5, 12, seed=1)
NOISE = [draw(1, 4, FRAMES, 6, 6, seed=9)] * 40
CONFIG = TuningConfig(steps=2, learning_rate=1e-3, context_length=LENGTH)


class Watched:
    """The usual loss, which notes what it is given."""

    def __init__(self) -> None:
        self.samples: list[Tensor] = []

    def __call__(self, denoiser: Denoiser, sample: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        self.samples.append(sample.detach())
        return NoisePrediction()(denoiser, sample, noise, t)


def start_of(sample: Tensor) -> int:
    """The frame of the clip at which a window begins."""
    return next(s for s in range(FRAMES) if torch.equal(LATENTS[:, :, s : s + LENGTH], sample))


def given(video_unet: VideoUNet) -> list[Tensor]:
    """What the model will be given, as a list that grows."""
    seen: list[Tensor] = []
    video_unet.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    return seen


def weights(video_unet: VideoUNet) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainable_parameters(video_unet).values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_each_pass_sees_a_window_led_by_two_frames(make_unet: MakeUNet) -> None:
    video_unet, watched, schedule = inflate(make_unet()), Watched(), NoiseSchedule.from_scheduler(EPSILON)
    seen, steps = given(video_unet), 40
    config = TuningConfig(steps=steps, learning_rate=1e-6, context_length=LENGTH)
    list(tune(video_unet, LATENTS, TEXT, EPSILON, config, objective=watched, noise=NOISE, timesteps=[300] * steps))
    noised, starts = schedule.add_noise(LATENTS, NOISE[0], 300), set()
    for sample, latents in zip(watched.samples, seen, strict=True):
        start = start_of(sample)
        starts.add(start)
        leads = sorted({0, start - 1}) if start else []
        expected = noised[:, :, [*leads, *range(start, start + LENGTH)]]
        torch.testing.assert_close(latents, expected)
    assert starts == set(range(FRAMES - LENGTH + 1)), "windows are drawn over the whole clip"


def test_loss_is_that_of_the_frames_of_the_window_alone(make_unet: MakeUNet) -> None:
    video_unet, watched = inflate(make_unet()), Watched()
    seen = given(video_unet)
    first = next(tune(video_unet, LATENTS, TEXT, EPSILON, CONFIG, objective=watched, noise=NOISE, timesteps=[300] * 2))
    start = start_of(watched.samples[0])
    with torch.no_grad():
        predicted = inflate(make_unet())(seen[0], 300, TEXT)[:, :, -LENGTH:]
    expected = (predicted - NOISE[0][:, :, start : start + LENGTH]).square().mean()
    assert first.loss == pytest.approx(float(expected), rel=1e-5)


def test_a_window_of_the_whole_clip_is_bit_equal_to_none(make_unet: MakeUNet) -> None:
    results = []
    for length in (None, FRAMES, FRAMES + 5):
        video_unet = inflate(make_unet())
        config = TuningConfig(steps=2, learning_rate=1e-3, context_length=length)
        list(tune(video_unet, LATENTS, TEXT, EPSILON, config))
        results.append(weights(video_unet))
    assert same(results[0], results[1]) and same(results[0], results[2])


def test_resume_is_bit_exact(make_unet: MakeUNet) -> None:
    whole = inflate(make_unet())
    list(tune(whole, LATENTS, TEXT, EPSILON, CONFIG))
    stopped = inflate(make_unet())
    state = TuningState(stopped, CONFIG)
    next(first := tune(stopped, LATENTS, TEXT, EPSILON, CONFIG, state=state))
    first.close()
    list(tune(stopped, LATENTS, TEXT, EPSILON, CONFIG, state=state))
    assert same(weights(whole), weights(stopped))


def test_store_keeps_tunings_of_other_windows_apart(make_unet: MakeUNet, tmp_path: Path) -> None:
    def tuned(**options: Any) -> Iterator[Any]:
        config = TuningConfig(steps=1, **options)
        return Store(tmp_path).tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, config)

    assert len(list(tuned(context_length=LENGTH))) == 1
    assert len(list(tuned(context_length=LENGTH))) == 0, "found again"
    assert len(list(tuned(context_length=LENGTH + 1))) == 1
    assert len(list(tuned())) == 1


@pytest.mark.slow
def test_a_long_clip_takes_the_memory_of_a_window_and_two_frames(make_unet: MakeUNet) -> None:
    video_unet, size = inflate(make_unet()), dict(height=6, width=6)
    windowed = estimate_memory(video_unet, TuningConfig(context_length=16), num_frames=64, **size)
    assert windowed == estimate_memory(video_unet, TuningConfig(), num_frames=18, **size)
    short = estimate_memory(video_unet, TuningConfig(context_length=16), num_frames=10, **size)
    assert short == estimate_memory(video_unet, TuningConfig(), num_frames=10, **size)


@pytest.mark.parametrize("length", [0, -1, 2.5, True])
def test_lengths_that_are_none_are_refused(length: Any) -> None:
    with pytest.raises(ValueError, match="context_length"):
        TuningConfig(context_length=length)
