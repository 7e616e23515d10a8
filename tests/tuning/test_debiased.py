"""The appearance-debiased loss against the paper's formula, and the updates of single frames that go with it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tav_core import (
    AppearanceDebiased,
    NoisePrediction,
    NoiseSchedule,
    Store,
    TuningConfig,
    VideoUNet,
    estimate_memory,
    inflate,
    save_tuned,
    trainable_parameters,
    tune,
)
from tav_core.store.files import read_file
from tav_core.store.tuned import FORMAT
from tav_core.tuning.spatial import LAYERS
from tav_core.tuning.state import TuningState
from tests.conftest import EPSILON, MakeUNet, draw

CLIPS, TEXT = draw(2, 4, 3, 6, 6), draw(2, 5, 12, seed=2)
DEBIASED = TuningConfig(steps=3, learning_rate=1e-2, loss="debiased", clips_in_turn=True)


@dataclass(frozen=True)
class Given:
    """A denoiser with a prediction that is given."""

    schedule: NoiseSchedule
    prediction: Tensor

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        return self.prediction


def loss_of(prediction: Tensor, noise: Tensor, beta: float) -> float:
    denoiser = Given(NoiseSchedule.from_scheduler(EPSILON), prediction)
    return float(AppearanceDebiased(beta)(denoiser, torch.zeros_like(noise), noise, torch.tensor([500])))


def test_the_loss_of_two_frames_by_hand() -> None:
    """Errors 3 and 1, beta 1. With the first frame as anchor phi is 3 (sqrt 2 - 1) and sqrt 2 - 3, with the other one
    3 sqrt 2 - 1 and sqrt 2 - 1."""
    root = 2**0.5
    first = ((3 * root - 3) ** 2 + (root - 3) ** 2) / 2
    second = ((3 * root - 1) ** 2 + (root - 1) ** 2) / 2
    expected = (9 + 1) / 2 + (first + second) / 2
    noise = torch.tensor([1.0, -2.0]).reshape(1, 1, 2, 1, 1)
    prediction = torch.tensor([4.0, -1.0]).reshape(1, 1, 2, 1, 1)
    assert loss_of(prediction, noise, 1.0) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(5 + 15 - 8 * root, rel=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_the_loss_is_that_of_the_paper_over_all_anchors(beta: float) -> None:
    noise, prediction = draw(1, 4, 5, 6, 6), draw(1, 4, 5, 6, 6, seed=1)

    def phi(frames: Tensor, anchor: int) -> Tensor:
        return (beta**2 + 1) ** 0.5 * frames - beta * frames[:, :, anchor : anchor + 1]

    anchors = [(phi(noise, anchor) - phi(prediction, anchor)).square().mean() for anchor in range(5)]
    expected = (prediction - noise).square().mean() + sum(anchors) / 5
    assert loss_of(prediction, noise, beta) == pytest.approx(float(expected), rel=1e-5)


def weights(video_unet: VideoUNet) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainable_parameters(video_unet).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_spatial_updates_are_gone_after_tuning(make_unet: MakeUNet, tmp_path: Path, rank: int) -> None:
    video_unet, plain = inflate(make_unet()), inflate(make_unet())
    given, before = (CLIPS[:1], 300, TEXT[:1]), dict(plain.unet.named_parameters())
    objective = AppearanceDebiased(rank=rank, learning_rate=1e-2)
    state = TuningState(video_unet, TuningConfig(steps=2), objective=objective, num_clips=2)
    for _ in tune(video_unet, CLIPS, TEXT, EPSILON, TuningConfig(steps=2), objective=objective, state=state):
        with torch.no_grad():
            between = video_unet(*given)
    assert [name for name, _ in video_unet.unet.named_parameters()] == list(before)
    assert not any(module._forward_hooks for module in video_unet.modules())
    changed = {name for name, p in video_unet.unet.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(trainable_parameters(video_unet))
    save_tuned(video_unet, tmp_path / "motion.safetensors")
    tensors, _ = read_file(tmp_path / "motion.safetensors", FORMAT)
    assert tensors.keys() == trainable_parameters(plain).keys()
    for name, parameter in trainable_parameters(plain).items():
        parameter.data.copy_(tensors[name])
    with torch.no_grad():
        assert torch.equal(plain(*given), between), "nothing but what is saved acts between two updates"
    assert (state.spatial is None) == (rank == 0)
    assert rank == 0 or all(p.any() for name, p in state.spatial.parameters().items())  # type: ignore[union-attr]


def test_single_frames_train_the_updates_alone_and_clips_the_rest_alone(make_unet: MakeUNet) -> None:
    """With a rate of zero for one of the two, the other learns what it learns."""
    objective, config = AppearanceDebiased(rank=2, learning_rate=1e-2), TuningConfig(steps=1, clips_in_turn=True)
    video_unet = inflate(make_unet())
    state, seen = TuningState(video_unet, config, objective=objective, num_clips=2), []
    for parameter in (*state.parameters.values(), *state.spatial.parameters().values()):  # type: ignore[union-attr]
        parameter.register_hook(lambda gradient, shape=parameter.shape: seen.append(shape))
    of_spatial = len(state.spatial.parameters())  # type: ignore[union-attr]
    list(tune(video_unet, CLIPS, TEXT, EPSILON, config, objective=objective, state=state))
    tuned = [parameter.shape for parameter in state.parameters.values()]
    assert sorted(seen[:of_spatial]) == sorted(p.shape for p in state.spatial.parameters().values())  # type: ignore[union-attr]
    assert sorted(seen[of_spatial:]) == sorted(tuned), "each weight has one gradient, from one of the two losses"
    ups = [up for name, up in state.spatial.parameters().items() if name.endswith(".up")]  # type: ignore[union-attr]
    assert all(up[0].any() and not up[1].any() for up in ups), "the second clip has not had its turn"


def test_single_frames_are_seen_as_by_the_image_model(make_unet: MakeUNet) -> None:
    """A temporal attention that was tuned does not act in them, and an update of zero adds nothing."""
    video_unet, image = inflate(make_unet()), inflate(make_unet(), temporal=False)
    list(tune(video_unet, CLIPS[:1], TEXT[:1], EPSILON, TuningConfig(steps=1, learning_rate=1e-2)))
    for block, module in image.blocks.items():
        for name in ("attn1", "attn2"):
            tuned = getattr(video_unet.blocks[block], name).to_q.weight
            getattr(module, name).to_q.weight.data.copy_(tuned)
    spatial = AppearanceDebiased(rank=2).companion(video_unet, 1, seed=0, device=torch.device("cpu"))
    frame = CLIPS[:1, :, :1], 300, TEXT[:1]
    with torch.no_grad():
        assert not torch.allclose(video_unet(*frame), image(*frame))
        with spatial.training([0]):  # type: ignore[union-attr]
            assert torch.equal(video_unet(*frame), image(*frame))
        assert len(spatial.parameters()) == 2 * len(LAYERS) * len(video_unet.blocks)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"context_length": 2},
        pytest.param({"gradient_checkpointing": True}, marks=pytest.mark.slow),
        pytest.param({"gradient_checkpointing": "selective"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_resume_after_each_step_is_bit_exact(make_unet: MakeUNet, options: dict[str, object]) -> None:
    config = TuningConfig(steps=3, learning_rate=1e-2, loss="debiased", clips_in_turn=True, **options)  # type: ignore[arg-type]
    reference = inflate(make_unet())
    expected = list(tune(reference, CLIPS, TEXT, EPSILON, config))
    tensors, steps = None, []
    for _ in range(config.steps):
        video_unet = inflate(make_unet())
        state = TuningState(video_unet, config, num_clips=2)
        if tensors is not None:
            state.load_state_dict(tensors, steps)
        run = tune(video_unet, CLIPS, TEXT, EPSILON, config, state=state)
        next(run)
        tensors, steps = {name: tensor.clone() for name, tensor in state.state_dict().items()}, list(state.steps)
        run.close()
    assert steps == expected and same(weights(video_unet), weights(reference))


@pytest.mark.slow
def test_checkpointing_computes_the_same(make_unet: MakeUNet) -> None:
    tuned = []
    for level in (False, "selective", True):
        video_unet = inflate(make_unet())
        config = TuningConfig(steps=2, loss="debiased", gradient_checkpointing=level)
        list(tune(video_unet, CLIPS, TEXT, EPSILON, config))
        tuned.append(weights(video_unet))
    assert same(tuned[0], tuned[1]) and same(tuned[0], tuned[2])


def test_the_store_resumes_and_finds_it_again(make_unet: MakeUNet, tmp_path: Path) -> None:
    store, reference = Store(tmp_path, save_every=1, save_share=1e9), inflate(make_unet())
    expected = list(tune(reference, CLIPS, TEXT, EPSILON, DEBIASED))
    run = store.tune(inflate(make_unet()), CLIPS, TEXT, EPSILON, DEBIASED)
    next(iter(run))
    run.close()
    for left in (2, 0):
        video_unet = inflate(make_unet())
        run = store.tune(video_unet, CLIPS, TEXT, EPSILON, DEBIASED)
        assert len(list(run)) == left and run.steps == expected
        assert same(weights(video_unet), weights(reference))
    assert not list(tmp_path.glob("*run*")), "its state, with the updates in it, is gone"


@pytest.mark.parametrize("change", [{"clips_in_turn": False}, {"loss": "published"}])
def test_settings_have_keys_of_their_own(make_unet: MakeUNet, tmp_path: Path, change: dict[str, object]) -> None:
    store = Store(tmp_path)
    values = vars(DEBIASED) | {"steps": 1}
    list(store.tune(inflate(make_unet()), CLIPS, TEXT, EPSILON, TuningConfig(**values)))
    assert len(list(store.tune(inflate(make_unet()), CLIPS, TEXT, EPSILON, TuningConfig(**values | change)))) == 1


def test_clips_take_turns(make_unet: MakeUNet) -> None:
    """Two passes of an update see both clips: the same as both at once, at the same noise, but for rounding."""
    noise, timesteps = [draw(*CLIPS.shape, seed=5)] * 2, [torch.tensor([200, 600])] * 2
    tuned = []
    for in_turn in (False, True):
        video_unet = inflate(make_unet())
        config = TuningConfig(steps=1, gradient_accumulation_steps=2, clips_in_turn=in_turn, max_grad_norm=1e9)
        (step,) = tune(video_unet, CLIPS, TEXT, EPSILON, config, noise=noise, timesteps=timesteps)
        tuned.append(step.loss)
    assert tuned[0] == pytest.approx(tuned[1], rel=1e-5)
    both = [NoisePrediction()(*call).detach() for call in _calls(inflate(make_unet()), noise[0], timesteps[0])]
    assert tuned[1] == pytest.approx(float(sum(both)) / 2, rel=1e-5)


def _calls(video_unet: VideoUNet, noise: Tensor, timesteps: Tensor) -> list[tuple]:
    from tav_core import unet_denoiser

    one = [slice(index, index + 1) for index in (0, 1)]
    return [(unet_denoiser(video_unet, EPSILON, TEXT[i]), CLIPS[i], noise[i], timesteps[i]) for i in one]


@pytest.mark.slow
def test_the_plan_knows_the_updates(make_unet: MakeUNet) -> None:
    video_unet, size = inflate(make_unet()), dict(num_frames=3, height=8, width=8, num_clips=2)
    plans = {
        rank: estimate_memory(
            video_unet, TuningConfig(clips_in_turn=True), **size, objective=AppearanceDebiased(rank=rank)
        )
        for rank in (0, 4)
    }
    spatial = AppearanceDebiased(rank=4).companion(video_unet, 2, seed=0, device=torch.device("cpu"))
    own = sum(p.nbytes for p in spatial.parameters().values())  # type: ignore[union-attr]
    assert plans[4].weights - plans[0].weights == own and plans[4].moments - plans[0].moments == 2 * own
    assert plans[4].activations > plans[0].activations + own, "gradients, and what acts in the clip's pass"
    together = estimate_memory(video_unet, TuningConfig(), **size, objective=AppearanceDebiased(rank=4))
    assert together.activations > 1.3 * plans[4].activations


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: AppearanceDebiased(beta=-1.0), "beta must be"),
        (lambda: AppearanceDebiased(rank=-1), "rank must be"),
        (lambda: TuningConfig(loss="mse"), "loss must be one of 'published', 'debiased'"),
        (lambda: TuningConfig(loss="debiased", min_snr_gamma=5.0), "weighs the published loss alone"),
        (lambda: TuningConfig(clips_in_turn=1), "clips_in_turn must be a bool"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_are_refused(made, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((TypeError, ValueError), match=message):
        made()
