"""A tuning taken up again is the tuning that never stopped, to the bit."""

import pytest
import torch
from torch import Tensor

from tav_core import TuningConfig, VideoUNet, inflate, trainable_parameters, tune
from tav_core.tuning_state import TuningState
from tests.conftest import EPSILON, MakeUNet, draw

LATENTS, TEXT = draw(1, 4, 2, 4, 4), draw(1, 5, 12, seed=1)
STEPS = 4


def weights(video_unet: VideoUNet) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainable_parameters(video_unet).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


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
def test_stopped_after_each_step_and_taken_up_by_another_model(make_unet: MakeUNet, options: dict[str, object]) -> None:
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


def test_taken_up_with_overrides_they_go_on_too(make_unet: MakeUNet) -> None:
    noise, timesteps = [draw(*LATENTS.shape, seed=seed) for seed in range(4)], [100, 300, 500, 700]
    config = TuningConfig(steps=2, learning_rate=1e-2, gradient_accumulation_steps=2)
    reference, video_unet = inflate(make_unet()), inflate(make_unet())
    list(tune(reference, LATENTS, TEXT, EPSILON, config, noise=noise, timesteps=timesteps))
    state = TuningState(video_unet, config)
    for _ in range(2):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, noise=noise, timesteps=timesteps, state=state))
    assert same(weights(video_unet), weights(reference))


def test_a_state_of_another_model_is_refused_and_changes_nothing(make_unet: MakeUNet) -> None:
    config = TuningConfig(steps=2)
    video_unet, other = inflate(make_unet()), inflate(make_unet("sd2"))
    before = weights(video_unet)
    with pytest.raises(ValueError, match="another tuning or model"):
        TuningState(video_unet, config).load_state_dict(TuningState(other, config).state_dict(), [])
    with pytest.raises(ValueError, match="another model"):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=TuningState(inflate(make_unet()), config)))
    assert same(weights(video_unet), before)


def test_an_update_that_broke_off_gives_no_state(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TuningConfig(steps=2)
    video_unet = inflate(make_unet())
    state = TuningState(video_unet, config)

    def broken() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(state.lr_scheduler, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        next(tune(video_unet, LATENTS, TEXT, EPSILON, config, state=state))
    with pytest.raises(RuntimeError, match="broke off"):
        state.state_dict()
