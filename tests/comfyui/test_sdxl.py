"""SDXL's MODEL and CONDITIONING under the pack's nodes, in ComfyUI's own process. See sdxl_host.py."""

from pathlib import Path

import pytest

from tests.comfyui.test_native import run

HOST = Path(__file__).with_name("sdxl_host.py")
REFUSED = {
    "distilled": "transformers of another depth, as distilled models have. Load a text-to-image checkpoint of",
    "no pooled text": "conditioning holds no pooled text, which SDXL takes: connect CLIP Text Encode with the CLIP",
}


@pytest.fixture(scope="module")
def results(comfyui: tuple[Path, str]) -> dict[str, dict]:
    return run(comfyui, HOST, "conversion", "native", "stages", "refusals")


def test_like_frames_equal_the_hosts_unet(results: dict[str, dict]) -> None:
    """One frame and three, with sizes in CONDITIONING and without, epsilon and zero-SNR v."""
    found = {name: value for name, value in results["conversion"].items() if name.endswith("frames")}
    assert len(found) == 8 and max(found.values()) <= 1e-5, found
    assert results["conversion"]["epsilon predicts"] and results["conversion"]["zero-SNR v predicts"]


def test_a_guided_loop_equals_the_hosts_on_the_native_model(results: dict[str, dict]) -> None:
    assert results["native"]["guided loop"] <= 1e-5, results["native"]
    assert results["native"]["sizes act"] > 1e-4


def test_the_nodes_tune_invert_and_edit(results: dict[str, dict]) -> None:
    found = results["stages"]
    assert len(found["loss"]) == 3 and found["shape"] == [4, 4, 8, 8] and found["finite"]


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(results: dict[str, dict], case: str) -> None:
    assert REFUSED[case] in results["refusals"][case]
