"""The code of docs/guide/python.md runs from top to bottom, on two small frames and a few steps."""

import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import tav_core
from tav_core import BUNDLED_CLIPS, presets

GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "python.md"
SHORTER = {
    "num_frames=24, width=128, height=128": "num_frames=2, width=32, height=32",
    "tuning_steps=100": "tuning_steps=1",
    "num_inference_steps=50": "num_inference_steps=4",
}


def code() -> str:
    """All code blocks, each at its line."""
    text = GUIDE.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    for block in re.finditer(r"(?ms)^```python\n(.*?)^```", text):
        first = text[: block.start(1)].count("\n")
        for index, line in enumerate(block[1].splitlines()):
            lines[first + index] = line
    return "\n".join(lines)


def blocks() -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"))


def test_the_ablation_is_short_and_takes_public_names_alone() -> None:
    (ablation,) = [block for block in blocks() if "VARIANTS" in block]
    assert len(ablation.splitlines()) < 60
    assert "import" not in ablation, "it needs no more than the imports of the first block"
    names = set(re.findall(r"\btav\.(\w+)", ablation))
    assert names and names <= set(tav_core.__all__)


def test_the_guide_imports_public_names_alone() -> None:
    """Those of tav_core itself, and of the modules that docs/api.md has."""
    imports = set(re.findall(r"from (tav_core[\w.]*) import", code()))
    assert imports <= {"tav_core.presets", "tav_core.viz.heat_maps"}
    assert set(re.findall(r"\btav\.(\w+)", code())) <= set(tav_core.__all__)


@pytest.mark.slow
def test_code_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"num_inference_steps": 4}
    bundled = replace(
        presets.BUNDLED,
        tuning=replace(presets.BUNDLED.tuning, steps=1),
        inversion=replace(presets.BUNDLED.inversion, **short),
        sampling=replace(presets.BUNDLED.sampling, **short),
        source_branch={kind: replace(config, **short) for kind, config in presets.BUNDLED.source_branch.items()},
    )
    monkeypatch.setattr(presets, "BUNDLED", bundled)
    monkeypatch.chdir(tmp_path)
    shutil.copy(BUNDLED_CLIPS["cartwheel"], "clip.mp4")
    text = code()
    for long, shorter in SHORTER.items():
        assert long in text
        text = text.replace(long, shorter)
    Path("guide.py").write_text(text, encoding="utf-8")
    names = runpy.run_path("guide.py", run_name="guide")
    assert {"edit.mp4", "published.mp4", "words.mp4"} <= {path.name for path in tmp_path.iterdir()}
    assert len(names["tav"].trainable_parameters(names["video_unet"])) == 49
