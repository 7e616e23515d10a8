"""MODEL to UNet on full-size models, in ComfyUI's own process. See host.py."""

import json
import os
import subprocess
from pathlib import Path

import pytest

HOST = Path(__file__).with_name("host.py")
REFUSED = {
    "refiner": "the family SDXLRefiner and takes other things beside the prompt than SDXL's base",
    "inpaint": "9 channels",
    "freeu": "act while ComfyUI samples",
    "flux": "the family Flux and has no UNet that can be inflated. Load a text-to-image checkpoint of",
    "svd": "the family SVD_img2vid and is a video model",
    "flow": "samples in another way than Stable Diffusion 1, 2 and XL, which predict noise (eps) or velocity (v). "
    "Connect the MODEL as its checkpoint loader gives it",
}
FULL_SIZE = ("sd15", "sd15-lora", "sd21")
COMPARED = (*FULL_SIZE, "scaled fp8", "gguf")


@pytest.fixture(scope="module")
def results(comfyui: tuple[Path, str]) -> dict[str, dict]:
    folder, python = comfyui
    done = subprocess.run(
        [python, str(HOST), "bundled", "precision", *REFUSED, *COMPARED],
        env={**os.environ, "COMFYUI_PATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["case"]: line for line in lines}


def test_auto_precision_can_be_tuned(results: dict[str, dict]) -> None:
    chosen = {case: dtype for case, dtype in results["precision"].items() if dtype != "torch.float32"}
    del chosen["case"]
    assert chosen == {
        "cuda torch.float16": "torch.float16",
        "cuda torch.bfloat16": "torch.bfloat16",
        "mps torch.bfloat16": "torch.bfloat16",
    }


@pytest.mark.parametrize("case", COMPARED)
def test_one_frame_equals_the_host(results: dict[str, dict], case: str) -> None:
    got = results[case]
    assert got["relative_error"] < 1e-3
    assert got["largest"] > 0.05
    assert got["unchanged"] and got["trains"]


def test_heads_and_prediction_type_per_family(results: dict[str, dict]) -> None:
    assert results["sd15"]["heads"] == [8, 8, 8, 8]
    assert results["sd21"]["heads"] == [5, 10, 20, 20]
    assert results["sd15"]["prediction_type"] == "epsilon"
    assert results["sd21"]["prediction_type"] == "v_prediction"


@pytest.mark.parametrize("case", COMPARED)
def test_noise_levels_of_stable_diffusion(results: dict[str, dict], case: str) -> None:
    assert results[case]["first_alpha"] == pytest.approx(0.99915, abs=1e-5)
    assert results[case]["last_alpha"] == pytest.approx(0.0046600, abs=1e-5)


def test_bundled_model_equals_the_library(results: dict[str, dict]) -> None:
    """MODEL, CLIP and VAE as KSampler, CLIP Text Encode and VAE Encode and Decode use them."""
    got = results["bundled"]
    assert {"unet", "text", "encode", "decode"} < set(got["errors"])
    assert max(got["errors"].values()) < 1e-5, got["errors"]
    assert got["unchanged"], "the inflated model has the weights of the bundled one"
    assert got["empty"] == [1, 16, 16, 16], "EmptyLatentImage takes the model's channels"
    assert got["preview"] < 0.05 < got["spread"], "previews show the colours"


def test_long_prompts_are_encoded_as_the_host_does(results: dict[str, dict]) -> None:
    errors = {name: error for name, error in results["bundled"]["errors"].items() if name.startswith("text of")}
    assert len(errors) == 5 and max(errors.values()) < 1e-5, errors


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_families_are_named(results: dict[str, dict], case: str) -> None:
    assert REFUSED[case] in results[case]["refused"]
