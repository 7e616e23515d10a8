"""The native MODEL on small models with random weights, in ComfyUI's own process. See native_host.py."""

import json
import os
import subprocess
from pathlib import Path

import pytest

HOST = Path(__file__).with_name("native_host.py")
CLOSE = 1e-5  # largest error over the largest value, of one call
CHAIN = 2e-5  # of steps in a row
REFUSED = {
    "family": "is of the family SDXL",
    "size": "is not of the size of the tuned one (1 heads of 64 and text of width 32",
    "text": "is not of the size of the tuned one (8 heads of 4 and text of width 64",
    "twice": "carries the motion of another clip: connect the MODEL from before Apply Motion",
    "tiles": "clips of 4 frames for 2 prompts, and was given 16 pictures: remove the node that puts tiles",
    "wrappers": "called this MODEL without its wrappers",
    "falling": "place Flip Sigmas between",
    "noise": "switch add_noise of SamplerCustom off",
    "flow": "needs a MODEL with noise (eps) or velocity (v) prediction",
    "windows twice": "has context windows already",
    "overlap": "overlap must be a whole number from 0 to 3",
}


def run(comfyui: tuple[Path, str], file: Path, *cases: str) -> dict[str, dict]:
    """The lines that the cases print, by the name of the case."""
    folder, python = comfyui
    environment = {**os.environ, "COMFYUI_PATH": str(folder)}
    done = subprocess.run([python, str(file), *cases], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line.pop("case"): line for line in lines}


@pytest.fixture(scope="module")
def results(comfyui: tuple[Path, str]) -> dict[str, dict]:
    return run(
        comfyui, HOST, "one_call", "conditions", "inversion", "windows", "lifecycle", "refusals", "exported", "leans_on"
    )


def test_one_call_equals_the_video_unet(results: dict[str, dict]) -> None:
    """Frame counts, both norms, strengths, guidance, prompts of unlike length, LoRAs; SD 1.5 twice, and SD 2.1."""
    found = {name: value for name, value in results["one_call"].items() if not name.endswith("acts")}
    assert len(found) == 3 * (2 * 4 + 7), "three sizes"
    assert max(found.values()) <= CLOSE, found


@pytest.mark.parametrize("size", ["sd15", "sd21"])
@pytest.mark.parametrize("what", ["tuning", "temporal attention"])
def test_tuning_changes_the_result(results: dict[str, dict], size: str, what: str) -> None:
    assert -results["one_call"][f"{size} the {what} acts"] > 0.1


def test_areas_masks_and_ranges_equal_the_video_unet(results: dict[str, dict]) -> None:
    assert max(results["conditions"].values()) <= CLOSE, results["conditions"]


def test_inversion_and_sampling_equal_the_library(results: dict[str, dict]) -> None:
    """Epsilon, velocity and zero terminal SNR."""
    assert len(results["inversion"]) == 6
    assert max(results["inversion"].values()) <= CHAIN, results["inversion"]


def test_one_window_is_bit_equal_to_none(results: dict[str, dict]) -> None:
    assert results["windows"]["one window is none"] is True


def test_windows_cut_hints_masks_and_texts_to_their_frames(results: dict[str, dict]) -> None:
    found = {name: value for name, value in results["windows"].items() if isinstance(value, float)}
    apart = {name: value for name, value in found.items() if name.endswith("apart from the whole")}
    assert len(apart) == 7 and min(apart.values()) > 1e-3, "windows act"
    errors = {name: value for name, value in found.items() if name not in apart}
    assert len(errors) == 8 and max(errors.values()) <= CLOSE, errors


def test_windows_tell_other_packs_their_frames(results: dict[str, dict]) -> None:
    seen = [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [0, 2, 3, 4, 5, 6]]
    assert results["windows"]["ad_params"] == [[7, frames] for frames in seen]


def test_nothing_is_left_after_alternations_and_faults(results: dict[str, dict]) -> None:
    found = results["lifecycle"]
    assert found["acts"] > 0.1 and found["alternations"] is True
    assert found["hooks"] == found["interrupt"] == found["exception"] == 0
    for name in ("interrupt", "exception"):
        assert found[f"after {name}"] is True and found[f"image model after {name}"] is True
    assert found["keys"] is True and found["weights"] is True
    assert found["bytes"][0] == found["bytes"][1], "after 3 and after 20 alternations"


def test_host_has_all_that_the_native_model_leans_on(results: dict[str, dict]) -> None:
    assert results["leans_on"]["missing"] == []


def test_an_exported_tuning_loads_as_a_lora(results: dict[str, dict]) -> None:
    found = results["exported"]
    assert -found["acts"] > 0.1
    assert found["diff"] <= CLOSE and found["lora"] <= 1e-3


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_uses_are_refused_in_one_sentence(results: dict[str, dict], case: str) -> None:
    assert REFUSED[case] in results["refusals"][case]
