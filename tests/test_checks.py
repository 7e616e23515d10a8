"""Arguments that cannot be meant: one sentence says what was expected and what came."""

import math
import os
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

from tav_core import InversionConfig, SamplingConfig, Store, TuningConfig, inflate, load_tuned, plain_noise, save_tuned
from tav_core.checks import check_choice, check_integer, check_number, check_path, check_tensor, shown
from tests.conftest import MakeUNet
from tests.hostile.clear import clear_error

NO_WHOLE_NUMBERS = [True, 1.5, 2.0, "3", None, [], math.nan, math.inf, torch.tensor(3), -(10**400), 10**400]
NO_NUMBERS = [False, "0.1", None, [], 1j, math.nan, math.inf, -math.inf, torch.tensor(0.5), -1e-3, 10**400]
CONFIGS: dict[Any, dict[str, list[Any]]] = {
    TuningConfig: {
        **dict.fromkeys(("steps", "warmup_steps", "gradient_accumulation_steps", "seed"), NO_WHOLE_NUMBERS),
        **dict.fromkeys(("learning_rate", "weight_decay", "eps", "max_grad_norm", "timestep_range"), NO_NUMBERS),
        "min_snr_gamma": [value for value in NO_NUMBERS if value is not None],
        "betas": [0.9, (0.9,), (0.9, 0.9, 0.9), (0.9, 1.0), (math.nan, 0.9), ("0.9", 0.9), None, "ab", {0, 1}],
        "lr_schedule": [None, "", "Cosine", [], 3, b"linear"],
        "gradient_checkpointing": [1, 0, "yes", None, []],
        "compute_dtype": ["float16", torch.int8, torch.complex64, 16, []],
    },
    InversionConfig: {
        **dict.fromkeys(("num_inference_steps", "refinements"), NO_WHOLE_NUMBERS),
        "tolerance": NO_NUMBERS,
    },
    SamplingConfig: {
        **dict.fromkeys(("num_inference_steps", "seed"), NO_WHOLE_NUMBERS),
        **dict.fromkeys(("guidance_scale", "eta", "guidance_rescale", "denoise"), NO_NUMBERS),
        "high_noise_guidance_scale": [value for value in NO_NUMBERS if value is not None],
    },
}


@pytest.mark.parametrize(("config", "name"), [(config, name) for config, names in CONFIGS.items() for name in names])
def test_configurations_refuse_what_is_no_number_of_theirs(config: Any, name: str) -> None:
    for value in CONFIGS[config][name]:
        with clear_error(f"{name} must be ", f"{name}["):
            config(**{name: value})
            pytest.fail(f"{name}={value!r} was taken")


def test_configurations_take_numbers_of_any_kind() -> None:
    TuningConfig(np.int64(3), np.float32(1e-3), betas=[0, np.float64(0.9)], seed=2**64 - 1, eps=Fraction(1, 10**8))
    SamplingConfig(np.int32(3), 1, eta=True - False, denoise=np.float16(0.5))
    InversionConfig(np.uint8(3))


@pytest.mark.parametrize("value", [True, "1", math.nan, math.inf, None, [1.0], torch.tensor(1.0), 1e9])
def test_a_strength_is_a_number(make_unet: MakeUNet, tmp_path: Path, value: Any) -> None:
    video_unet = inflate(make_unet())
    path = save_tuned(video_unet, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="strength must be a number in "):
        load_tuned(video_unet, path, strength=value)


def test_a_store_refuses_limits_that_are_none(tmp_path: Path) -> None:
    for name, values in {
        "max_bytes": [-1, 1.5, True, "1", math.nan],
        "save_every": [0, 1.5, True, "1"],
        "save_share": [0, math.nan, "1", True, -1],
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=f"{name} must be "):
                Store(tmp_path, **{name: value})
    with pytest.raises(ValueError, match="max_bytes must be a whole number"):
        Store(tmp_path).prune(2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 4, 2), (1, 4, 2, 8, 8.5), (1, -4, 2, 8, 8), (0, 4, 2, 8, 8), 7, (10**6,) * 5])
def test_plain_noise_of_no_shape(shape: Any) -> None:
    with pytest.raises(ValueError, match="shape"):
        plain_noise(shape, 0)


def test_sentences() -> None:
    with pytest.raises(ValueError, match=r"^steps must be a whole number from 1 to 9, not 1\.5\.$"):
        check_integer("steps", 1.5, 1, 9)
    with pytest.raises(ValueError, match=r"^eta must be a number in \[0, 1\], not nan\.$"):
        check_number("eta", math.nan, 0, 1)
    with pytest.raises(ValueError, match=r"^rate must be a number in \(0, 1\), not 1\.$"):
        check_number("rate", 1, 0, 1, without="both")
    with pytest.raises(ValueError, match=r"^fit must be one of 'crop', 'pad', not \[\]\.$"):
        check_choice("fit", [], ("crop", "pad"))
    assert check_path(Path("a b/größe.mp4")) == Path("a b/größe.mp4")


def test_a_path_has_no_more_folders_than_can_be_made(make_unet: MakeUNet) -> None:
    """In a short folder: where the whole path is too long, the system says so first."""
    with TemporaryDirectory(dir="/tmp" if os.name == "posix" else None) as folder:
        for parts in ("x/" * 1500, "x/" * 400):
            with pytest.raises(ValueError, match="leads through more than 256 folders"):
                save_tuned(inflate(make_unet()), f"{folder}/{parts}tuned.safetensors")
        assert not list(Path(folder).iterdir())
        save_tuned(inflate(make_unet()), f"{folder}/{'x/' * 90}tuned.safetensors")


def test_whatever_came_is_shown_in_a_short_printable_line() -> None:
    for value in ("a\nb" * 999, "\0\u202e\ud800", 10**9999, -(10**9999), torch.zeros(99, 99), [object()] * 999):
        assert shown(value).isprintable() and len(shown(value)) < 210
    assert shown("größe") == "'größe'"


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (None, "must be a torch.Tensor"),
        (np.zeros(3), "must be a torch.Tensor"),
        (torch.zeros(3, dtype=torch.int64), "floating-point"),
        (torch.zeros(3, dtype=torch.complex64), "floating-point"),
        (torch.zeros(3, device="meta"), "meta"),
        (torch.zeros(3).to_sparse(), "sparse"),
        (torch.tensor([1.0, math.nan]), "not finite"),
        (torch.tensor([1e300], dtype=torch.float64), "not finite"),
        (torch.zeros(()).expand(2**20, 2**20), "at most"),
    ],
)
def test_tensors_that_hold_no_numbers_to_compute_with(tensor: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^latents .*{words}"):
        check_tensor("latents", tensor)
