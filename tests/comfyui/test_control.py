"""ControlNets and T2I-Adapters of the host under the pack's nodes, in ComfyUI's own process. See control_host.py."""

from pathlib import Path

import pytest

from tests.comfyui.test_native import run

HOST = Path(__file__).with_name("control_host.py")
REFUSED = {
    "frames": "Apply ControlNet has 2 images and the clip 4 frames: give one image for each frame",
    "kind": "carries a ControlLora, which is not supported: apply a ControlNet or a T2I-Adapter",
    "family": "reads prompts of width 64, the model those of width 32: load one that was made for this family",
}


@pytest.fixture(scope="module")
def results(comfyui: tuple[Path, str]) -> dict[str, dict]:
    return run(comfyui, HOST, "loops", "stages", "refusals", "demo")


def test_a_guided_loop_equals_the_hosts(results: dict[str, dict]) -> None:
    """From a tenth to six tenths of the way; alone, chained, and one hint for all frames."""
    found = {name: value for name, value in results["loops"].items() if not name.endswith("acts")}
    assert len(found) == 6 and max(found.values()) <= 1e-5, found
    assert min(value for name, value in results["loops"].items() if name.endswith("acts")) > 0.1


@pytest.mark.parametrize("what", ["inverted", "loss None", "loss 2"])
def test_it_acts_in_inversion_and_tuning(results: dict[str, dict], what: str) -> None:
    """In tuning on windows too, which cuts the hints."""
    assert results["stages"][f"control {what}"] != results["stages"][f"plain {what}"]


@pytest.mark.parametrize("case", REFUSED)
def test_controls_that_do_not_fit_are_refused(results: dict[str, dict], case: str) -> None:
    assert REFUSED[case] in results["refusals"][case]


@pytest.mark.parametrize("kind", ["depth", "pose"])
def test_the_bundled_controlnets_act_as_in_the_core_and_under_the_hosts_sampler(
    results: dict[str, dict], kind: str
) -> None:
    found = results["demo"]
    assert found[f"{kind}, core"] <= 1e-5 and found[f"{kind}, host"] <= 1e-5, found
    assert found[f"{kind} acts"] > 0.01
