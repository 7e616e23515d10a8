"""One set of trained weights, whichever it is: tune, save, load, reset, strength and the store follow it."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from tav_core import (
    NoisePrediction,
    Store,
    TuningConfig,
    TuningState,
    VideoUNet,
    estimate_memory,
    inflate,
    load_tuned,
    save_tuned,
    trainable_parameters,
    tune,
)
from tests.conftest import EPSILON, MakeUNet, draw

LATENTS, TEXT = draw(1, 4, 2, 4, 4), draw(1, 5, 12, seed=1)
CONFIG = TuningConfig(steps=2, learning_rate=1e-2)


def with_lora(make_unet: MakeUNet) -> VideoUNet:
    model = inflate(make_unet())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["attn1.to_q", "attn2.to_q", "conv1"]), model.unet)
    return model


def lora(model: VideoUNet) -> list[str]:
    return [name for name, _ in model.unet.named_parameters() if ".lora_" in name]


def weights(model: VideoUNet) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.unet.named_parameters()}


def changed(model: VideoUNet, before: dict[str, Tensor]) -> set[str]:
    return {name for name, weight in model.unet.named_parameters() if not torch.equal(weight, before[name])}


def tuned(model: VideoUNet, **options: object) -> list[float]:
    return [step.loss for step in tune(model, LATENTS, TEXT, EPSILON, CONFIG, **options)]


def predicted(model: VideoUNet) -> Tensor:
    with torch.no_grad():
        return model(LATENTS, 500, TEXT)


def test_a_lora_is_tuned_saved_loaded_reset_and_scaled(make_unet: MakeUNet, tmp_path: Path) -> None:
    model = with_lora(make_unet)
    before, untuned = weights(model), predicted(model)
    tuned(model, parameters=lora(model))
    assert changed(model, before) == set(lora(model)) == trainable_parameters(model).keys()
    after, at_one = weights(model), predicted(model)
    save_tuned(model, tmp_path / "lora.safetensors")
    model.adapter.scale = 0.0
    torch.testing.assert_close(predicted(model), untuned)
    model.adapter.scale = 1.0
    assert changed(model, after) == set()
    model.reset()
    assert changed(model, before) == set()
    assert len(trainable_parameters(model)) == len(trainable_parameters(inflate(make_unet())))
    load_tuned(model, tmp_path / "lora.safetensors")
    assert changed(model, after) == set() and trainable_parameters(model).keys() == set(lora(model))
    assert torch.equal(predicted(model), at_one)
    other = with_lora(make_unet)
    load_tuned(other, tmp_path / "lora.safetensors", strength=0.5)
    model.adapter.scale = 0.5
    assert torch.equal(predicted(other), predicted(model))
    with pytest.raises(ValueError, match=r"belong to another model.*lora"):
        load_tuned(inflate(make_unet()), tmp_path / "lora.safetensors")


@pytest.mark.parametrize("part", ["conv_in", "attn1.to_v", "attn_temp.to_q", "norm1"])
def test_any_weights_train_and_no_others(make_unet: MakeUNet, part: str) -> None:
    model = inflate(make_unet())
    chosen = {name: weight for name, weight in model.unet.named_parameters() if part in name}
    trained_before = {name: weight.clone() for name, weight in weights(model).items()}
    tuned(model, parameters=chosen)  # a mapping gives its keys
    # A query alone of the temporal attention acts through an output projection of zero, and has no gradient but decay.
    assert changed(model, trained_before) <= set(chosen)
    assert changed(model, trained_before) >= {name for name in chosen if name.endswith("weight")}
    model.reset()
    assert changed(model, trained_before) == set()


def test_a_second_set_joins_what_is_tuned(make_unet: MakeUNet, tmp_path: Path) -> None:
    """So that a file and a reset hold all that is not untuned."""
    model = with_lora(make_unet)
    before, published = weights(model), list(trainable_parameters(model))
    tuned(model)
    first = weights(model)
    tuned(model, parameters=lora(model))
    assert changed(model, first) == set(lora(model)), "only the second set is trained"
    assert list(trainable_parameters(model)) == [*published, *lora(model)]
    save_tuned(model, tmp_path / "both.safetensors")
    both = weights(model)
    model.reset()
    assert changed(model, before) == set()
    load_tuned(model, tmp_path / "both.safetensors")
    assert changed(model, both) == set()
    save_tuned(inflate(make_unet()), tmp_path / "published.safetensors")
    load_tuned(model, tmp_path / "published.safetensors")
    assert changed(model, before) == set(), "the LoRA goes back too"


@pytest.mark.slow
def test_the_store_keeps_sets_losses_and_draws_apart(make_unet: MakeUNet, tmp_path: Path) -> None:
    def stored(**options: object) -> int:
        """Steps that are left to make."""
        return len(list(Store(tmp_path).tune(with_lora(make_unet), LATENTS, TEXT, EPSILON, CONFIG, **options)))

    noise = [draw(1, 4, 2, 4, 4, seed=seed) for seed in (7, 8)]
    names = lora(with_lora(make_unet))
    for options in (
        {},
        {"parameters": names},
        {"parameters": names[:2]},
        {"objective": NoisePrediction(5.0)},
        {"noise": noise},
        {"noise": noise[::-1]},
        {"timesteps": [1, 2]},
    ):
        assert (stored(**options), stored(**options)) == (2, 0), options
    model = with_lora(make_unet)
    run = Store(tmp_path).tune(model, LATENTS, TEXT, EPSILON, CONFIG, parameters=names)
    entry = tmp_path / f"tuned-{run.key}.safetensors"
    other = with_lora(make_unet)
    load_tuned(other, entry)
    assert changed(other, weights(model)) == set()


def test_an_objective_of_ones_own_is_stored_under_a_tag_alone(make_unet: MakeUNet, tmp_path: Path) -> None:
    def zero(denoiser, sample, noise, t):  # type: ignore[no-untyped-def]
        return denoiser(sample, t).square().mean()

    class Config(TuningConfig):
        @property
        def objective(self):  # type: ignore[no-untyped-def]
            return zero

    model = inflate(make_unet())
    with pytest.raises(ValueError, match=r"an objective of its own \(zero\).*tag="):
        Store(tmp_path).tune(model, LATENTS, TEXT, EPSILON, CONFIG, objective=zero)
    with pytest.raises(ValueError, match=r"an objective of its own \(zero\).*tag="):
        Store(tmp_path).tune(model, LATENTS, TEXT, EPSILON, Config(steps=2))
    plain = Store(tmp_path, tag="zero").tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG)
    assert Store(tmp_path, tag="zero").tune(model, LATENTS, TEXT, EPSILON, CONFIG, objective=zero).key != plain.key


def test_the_objective_given_is_minimised(make_unet: MakeUNet) -> None:
    def constant(denoiser, sample, noise, t):  # type: ignore[no-untyped-def]
        return denoiser(sample, t).mean() * 0 + 3

    assert tuned(inflate(make_unet()), objective=constant) == [3.0, 3.0]
    same = [tuned(inflate(make_unet())), tuned(inflate(make_unet()), objective=NoisePrediction())]
    assert same[0] == same[1]


@pytest.mark.slow
def test_memory_is_that_of_the_set_and_the_objective(make_unet: MakeUNet) -> None:
    model, size = inflate(make_unet()), dict(num_frames=2, height=8, width=8)
    published = estimate_memory(model, CONFIG, **size)
    model.adapter.choose([name for name, _ in model.unet.named_parameters()])
    every = estimate_memory(model, CONFIG, **size)
    assert every.moments == 2 * sum(weight.nbytes for weight in model.unet.parameters()) > published.moments

    def twice(denoiser, sample, noise, t):  # type: ignore[no-untyped-def]
        return (denoiser(sample, t) - denoiser(noise, t)).square().mean()

    assert estimate_memory(model, CONFIG, **size, objective=twice).activations > 1.3 * every.activations


def test_flags_that_are_not_followed_warn(make_unet: MakeUNet) -> None:
    model = inflate(make_unet())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned(model)
    model.unet.conv_in.requires_grad_(True)
    with pytest.warns(UserWarning, match=r"conv_in.weight requires a gradient.*parameters=names"):
        tuned(model)
    model.unet.conv_in.requires_grad_(False)
    next(iter(trainable_parameters(model).values())).requires_grad_(False)
    with pytest.warns(UserWarning, match="is trained anyway"):
        tuned(model)


@pytest.mark.parametrize(
    ("names", "message"),
    [([], "names no weight"), (["conv"], "no parameter 'conv'"), ("conv_in.weight", "several names")],
)
def test_wrong_names_raise(make_unet: MakeUNet, names: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        tuned(inflate(make_unet()), parameters=names)


def test_a_state_belongs_to_its_set(make_unet: MakeUNet) -> None:
    model = inflate(make_unet())
    state = TuningState(model, CONFIG, ["conv_in.weight"])
    assert len(tuned(model, state=state)) == 2
    with pytest.raises(ValueError, match="made for another model"):
        tuned(model, state=state, parameters=["conv_out.weight"])


def test_a_lora_that_was_removed_raises_in_words(make_unet: MakeUNet) -> None:
    model = with_lora(make_unet)
    tuned(model, parameters=lora(model))
    for module in model.unet.modules():
        for name, child in list(module.named_children()):
            if hasattr(child, "base_layer"):
                setattr(module, name, child.base_layer)
    with pytest.raises(ValueError, match=r"has lost .*lora.*reset"):
        trainable_parameters(model)
    model.reset()
    assert trainable_parameters(model)


WORKER = """
import sys, time
from tests.conftest import EPSILON, draw, SD1
import torch
from diffusers import UNet2DConditionModel
from tav_core import Store, TuningConfig, inflate
torch.manual_seed(1)
model = inflate(UNet2DConditionModel(**SD1).eval())
print("ready", flush=True)
sys.stdin.readline()
run = Store(sys.argv[1]).tune(model, draw(1, 4, 2, 4, 4), draw(1, 5, 12), EPSILON, TuningConfig(steps=4))
made = 0
for step in run:
    made += 1
    time.sleep(0.2)
print("made", made, flush=True)
"""


@pytest.mark.slow
def test_two_processes_do_not_compute_the_same_tuning(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
    workers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    outputs = [worker.communicate() for worker in workers]
    assert sorted(out for out, _ in outputs) == ["made 0\n", "made 4\n"]
    assert sum("waiting for it" in err for _, err in outputs) == 1
    assert not list(tmp_path.glob(".run-*"))


def test_runs_of_one_process_do_not_wait_for_each_other(make_unet: MakeUNet, tmp_path: Path) -> None:
    runs = [Store(tmp_path).tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, CONFIG) for _ in range(2)]
    assert [next(run).step for run in runs] == [1, 1]
    assert [len(list(run)) for run in runs] == [1, 1]
    assert not list(tmp_path.glob(".run-*"))
