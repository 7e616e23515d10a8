"""All parts of the check of a GPU, run small on the CPU by the command, and what its JSON says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_check import driver
from benchmarks.gpu_check.setting import GIB

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The JSON and what the command printed. With COMFYUI_PATH set, the native part runs too."""
    path = tmp_path_factory.mktemp("check") / "gpu-check.json"
    words = ["--device", "cpu", "--output", str(path), "--minutes", "120"]
    code = "import sys; from benchmarks.gpu_check import driver, __main__ as command; "
    code += "driver.LIMITS.update({name: 1200 for name in driver.LIMITS}); sys.exit(command.main(sys.argv[1:]))"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    found = json.loads(path.read_text())
    assert done.returncode == 0, found["parts"]
    return found, done.stdout.decode()


def result(checked: Any, name: str) -> dict[str, Any]:
    outcome = checked[0]["parts"][name]
    assert outcome["status"] == "done", outcome
    return outcome["result"]


def test_every_part_is_done_or_says_what_it_needs(checked: Any) -> None:
    found, printed = checked
    assert list(found["parts"]) == list(driver.LIMITS)
    skipped = {name: part["reason"] for name, part in found["parts"].items() if part["status"] == "skipped"}
    assert skipped == {} if "COMFYUI_PATH" in os.environ else {*skipped} == {"native"}
    for name in driver.LIMITS:
        assert f"## gpu_check {name}\n" in printed
    assert found["machine"]["small"] is True and "torch" in found["machine"]["line"]


def test_precision_has_errors_of_each_type_by_depth(checked: Any) -> None:
    found = result(checked, "precision")
    levels = [0, 1, 2, 3]
    down, up = [f"down {n}" for n in levels], [f"up {n}" for n in levels]
    assert found["blocks"] == ["input", *down, "middle", *up, "prediction"]
    errors = found["errors"]
    assert max(errors["float32"]) < 1e-6, "the same numbers on the same device"
    for name, low, high in (("float16", 1e-5, 0.02), ("bfloat16", 1e-4, 0.1)):
        assert low < errors[name][-1] < high
    assert all(half < brain for half, brain in zip(errors["float16"], errors["bfloat16"], strict=True))


def test_memory_is_measured_beside_the_plan(checked: Any) -> None:
    rows = result(checked, "memory")["rows"]
    assert [row["step"] for row in rows] == ["sampling", "tuning"]
    for row in rows:
        assert row["fits"] and row["peak"] - row["held"] == row["above"] and row["planned_peak"] > row["planned_above"]
        assert 1 / 3 < row["above"] / row["planned_above"] < 3, "so small a model shows no more"


def test_speed_has_seconds_arithmetic_and_utilisation(checked: Any) -> None:
    found = result(checked, "speed")
    assert [row["step"] for row in found["rows"]] == ["sampling", "tuning"] and found["product_flops_a_second"] > 1e8
    for row in found["rows"]:
        assert row["flops_a_second"] == pytest.approx(row["flops"] / row["seconds"])
        assert row["utilisation"] == pytest.approx(row["flops_a_second"] / found["product_flops_a_second"])
        assert row["flops"] > 1e8 and 0 < row["image_seconds"] < 100 and 0 < row["seconds"] < 100
    assert found["rows"][1]["flops"] > found["rows"][0]["flops"] > 1e9


def test_a_clip_is_tuned_within_the_limit(checked: Any) -> None:
    found = result(checked, "fit")
    assert found["fits"] is True and found["limit"] == 8 * GIB and found["peak"] < found["limit"]
    assert (found["frames"], found["pixels"]) == (2, 128) and found["gradient_checkpointing"] == "off"
    assert len(found["losses"]) == 4 and all(0 < loss < 10 for loss in found["losses"])
    assert {*found["seconds"]} == {"encode", "an update", "invert", "sample", "decode"}


def test_compiled_steps_give_the_same_and_are_timed_beside_the_others(checked: Any) -> None:
    found = result(checked, "compiled")
    assert found["difference"] < 1e-5 and [row["step"] for row in found["rows"]] == ["sampling", "tuning"]
    for row in found["rows"]:
        assert row["compile_seconds"] > row["compiled_seconds"] > 0 and row["eager_seconds"] > 0


def test_native_model_is_sampled_by_both_ways_of_loading(checked: Any) -> None:
    if checked[0]["parts"]["native"]["status"] == "skipped":
        pytest.skip("set COMFYUI_PATH to a ComfyUI folder to run the native MODEL in it")
    found = result(checked, "native")
    assert found["is_dynamic"] is False, "a CPU has no Dynamic VRAM"
    assert found["differences"] == {"image": 0, "native": 0} and found["tuning_acts"] > 0.1
    assert found["image_unchanged"] == {"older": True, "dynamic": True}
