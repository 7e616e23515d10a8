"""`trial` from files to pages, on the bundled model with few frames and steps: resumed, shared, compared."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tav_core.cli.main import main
from tav_core.models.base import ASSETS
from tav_core.trial import run
from tav_core.trial.record import key_of, read_record
from tav_core.trial.results import write_results
from tav_core.video import read_video
from tests.clips import caption_of
from tests.comfyui.browser import CHROMIUM
from tests.pages import check_page
from tests.sd import UNET, make_folder

ROOT = Path(__file__).parents[2]
SOURCE, PROMPTS = caption_of(), [caption_of(coat="blue"), caption_of(place="moon")]
SMALL = dict(num_frames=2, width=32, height=32, tuning_steps=2, num_inference_steps=2, device="cpu")
EDITS = [f"{n}-{way}-{strength}" for strength in (1, 0) for way in ("published", "content") for n in (1, 2)]


def arguments(folder: Path, **changes: Any) -> list[str]:
    """The command in a folder whose name must not come to the public."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")
    options = dict(video=ASSETS / "demo-clip.mp4", source_prompt=SOURCE, prompts=folder / "prompts.txt")
    options |= dict(output=folder / "trial", ways=["published", "content"], strengths=[1, 0]) | SMALL | changes
    words = ["trial"]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return words


def states(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each record and video was written, and what is in it."""
    files = [path for path in (folder / "trial" / "edits").iterdir() if not path.name.endswith(".job.json")]
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A trial that was interrupted in its fourth edit and run again; its folder, and the stages of the second run."""
    folder, sampled, labels = tmp_path_factory.mktemp("secret-folder"), [], []

    def stopping(steps: Any, label: str, total: int) -> Any:
        if label == "sample":
            sampled.append(label)
            if len(sampled) == 4:
                raise KeyboardInterrupt
        yield from steps

    def watching(steps: Any, label: str, total: int) -> Any:
        labels.append(label)
        yield from steps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tav_core.cli.trial.show_progress", stopping)
        assert main(arguments(folder)) == 130
        before = states(folder)
        assert {*before} == {f"{name}.{kind}" for name in EDITS[:3] for kind in ("json", "mp4")}
        patch.setattr("tav_core.cli.trial.show_progress", watching)
        assert main(arguments(folder)) == 0
    assert {name: states(folder)[name] for name in before} == before, "what was made is not made again"
    yield folder, labels


def test_an_interrupted_trial_makes_only_what_is_left(trial: Any) -> None:
    folder, labels = trial
    assert labels.count("sample") == len(EDITS) - 3
    tuned = json.loads((folder / "trial" / "edits" / "2-content-1.json").read_text())
    assert tuned["steps"]["tune"] == 0 and labels[:2] == ["tune", "sample"], "the tuning is taken from the store"
    assert {path.stem for path in (folder / "trial" / "edits").glob("*.mp4")} == {*EDITS}


def test_a_finished_trial_loads_no_model(trial: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder, _ = trial
    monkeypatch.setattr(run, "run_edit", lambda *_: pytest.fail("an edit is made again"))
    before, name = states(folder), json.loads((folder / "trial" / "trial.json").read_text())["trial"]
    assert main(arguments(folder)) == 0
    assert states(folder) == before and json.loads((folder / "trial" / "trial.json").read_text())["trial"] == name
    assert capsys.readouterr().err.count("made before") == len(EDITS)


def test_edits_differ_by_way_and_by_tuning(trial: Any) -> None:
    folder, _ = trial
    clips = {name: read_video(folder / "trial" / "edits" / f"{name}.mp4").frames for name in EDITS}
    assert all(clip.shape == (2, 32, 32, 3) for clip in clips.values())
    different = [(a, b) for a in EDITS for b in EDITS if a < b and (clips[a] - clips[b]).abs().mean() > 1e-3]
    assert ("1-content-1", "1-published-1") in different and ("1-published-0", "2-published-0") in different


def test_public_report_holds_figures_and_settings_of_each_edit(trial: Any) -> None:
    folder, _ = trial
    public = json.loads((folder / "trial" / "trial.json").read_text())
    assert [f"{edit['prompt']}-{edit['way']}-{edit['strength']:g}" for edit in public["edits"]] == EDITS
    assert public["clip"] == {"num_frames": 2, "height": 32, "width": 32, "fps": 8.0}
    assert public["model"]["bundled"] is True and public["model"]["prediction_type"] == "v_prediction"
    assert public["prompts"] == 2 and public["versions"]["torch"] == torch.__version__
    for edit in public["edits"]:
        assert edit["settings"]["tuning"]["steps"] == 2 and edit["settings"]["sampling"]["num_inference_steps"] == 2
        assert 5 < edit["figures"]["psnr"] < 60 and edit["seconds"]["all"] >= edit["seconds"]["sample"] > 0
        assert 2**26 < edit["peak_memory_bytes"] < 2**36 and edit["control"] is False
        assert (edit["reconstruction_snr_db"] is None) == (edit["way"] != "published")
    first = public["edits"][0]
    assert first["steps"]["tune"] == 2 and 0 < first["loss"]["first"] == first["loss"]["last"] < 10


def test_public_report_holds_no_frames_prompts_or_paths(trial: Any) -> None:
    folder, _ = trial
    text = (folder / "trial" / "trial.json").read_text()
    secret = [*PROMPTS, SOURCE, "secret-folder", str(ASSETS), "demo-clip", os.sep + "tmp", ".mp4", "base64"]
    for word in {word for prompt in [*PROMPTS, SOURCE] for word in prompt.split() if len(word) > 2} | {*secret}:
        assert not re.search(rf"\b{re.escape(word)}\b", text), word
    assert (folder / "trial" / "edits" / "1-content-1.json").read_text().count("secret-folder") == 0
    strings: set[str] = set()

    def walk(value: Any) -> None:
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
            walk(one)
        strings.update([value] if isinstance(value, str) else [])

    walk(json.loads(text))
    assert max(map(len, strings)) < 40 and len(strings) < 40, strings


def test_a_record_counts_for_the_edit_that_it_is_of_alone(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for another prompt, other settings, other measures, or a video that is gone."""
    planned: list[Any] = []
    monkeypatch.setattr("tav_core.cli.trial.run_trial", lambda edits, *_: (planned.extend(edits), iter(()))[1])
    assert main(arguments(trial[0])) == 1, "nothing was made"
    measuring = vars(run.Measuring())
    keys = [key_of(edit.job, measuring) for edit in planned]
    assert len({*keys}) == len(EDITS) and all(map(read_record, planned, keys))
    first = planned[0]
    assert read_record(first, keys[1]) is None
    assert key_of(replace(first.job, seed=1), measuring) != keys[0]
    assert key_of(first.job, measuring | {"clip": ASSETS / "demo-model"}) != keys[0]
    assert key_of(replace(first.job, output=Path("elsewhere.mp4")), measuring) == keys[0]
    gone = replace(first, job=replace(first.job, output=first.video.with_name("gone.mp4")))
    assert read_record(gone, keys[0]) is None


@pytest.mark.slow
def test_an_edit_that_is_not_finite_is_recorded_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    made = run.run_edit

    def failing(job: Any, *given: Any) -> Any:
        if job.start_from == "source_branch":
            raise FloatingPointError("Sampling gave numbers that are not finite.")
        return made(job, *given)

    monkeypatch.setattr(run, "run_edit", failing)
    (tmp_path / "prompts.txt").write_text("a dog")
    words = arguments(tmp_path, strengths=[0])
    assert main(words) == 1 and "2 of 4 edits" in capsys.readouterr().out
    public = json.loads((tmp_path / "trial" / "trial.json").read_text())
    assert [edit.get("error") for edit in public["edits"]] == [None, None, "FloatingPointError", "FloatingPointError"]
    assert "2 of 4 edits failed" in (tmp_path / "trial" / "report.html").read_text()
    monkeypatch.setattr(run, "run_edit", made)
    assert main(words) == 0 and "4 of 4 edits" in capsys.readouterr().out


def test_a_trial_without_any_edit_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none was planned"):
        write_results(tmp_path, [])


def test_pages_are_self_contained_and_the_comparison_names_no_way(trial: Any) -> None:
    folder, _ = trial
    report, compared = ((folder / "trial" / page).read_text() for page in ("report.html", "preferences.html"))
    assert set(re.findall(r"""(?:src|href)=["'](?!data:)([^"']*)""", report + compared)) == {"preferences.html"}
    assert all(prompt in re.sub(r"<[^>]+>", "", report) for prompt in PROMPTS)
    assert report.count("<video") == 2 * 2, "a strip for each prompt and way"
    data = json.loads(compared.partition('id="data">')[2].partition("</script>")[0])
    assert len(data["clips"]) == len(EDITS) and len({*data["clips"]}) == len(EDITS)
    assert len(data["pairs"]) == 2 * (2 + 2)
    visible = re.sub(r"(?s)<script.*?</script>|<[^>]+>", "", compared.partition("<body>")[2])
    assert "The left one" in visible and not re.search(r"published|content|tuned", visible)


@pytest.mark.slow
def test_the_comparison_keeps_the_choices_and_saves_them(trial: Any) -> None:
    play = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("install Chromium to open the page")
    folder = trial[0] / "trial"
    data = json.loads((folder / "preferences.html").read_text().partition('id="data">')[2].partition("</script>")[0])
    with play.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless=new"])
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(120_000)
        page.goto((folder / "preferences.html").as_uri())
        page.click("#save")
        assert page.inner_text("#count") == "Judge a pair first."
        first = data["clips"][data["pairs"][0][0]]
        assert page.get_attribute("#left", "src") == first
        page.click("#choose-right")
        page.keyboard.press("ArrowDown")
        page.reload()
        assert page.inner_text("#count") == "Pair 3 of 8; 2 judged."
        page.click("#back")
        assert page.get_attribute("#choose-same", "aria-pressed") == "true"
        page.click("#choose-left")
        text = page.inner_text("main")
        assert not re.search(r"published|content|tuned", text)
        with page.expect_download() as saved:
            page.click("#save")
        written = json.loads(Path(saved.value.path()).read_text())
        page.click("#reveal")
        assert "tuned" in page.inner_text("#result")
        browser.close()
    sides = [[data["edits"][clip] for clip in pair] for pair in data["pairs"][:2]]
    expected = [
        {"left": left, "right": right, "better": better}
        for (left, right), better in zip(sides, ("right", "left"), strict=True)
    ]
    for choice in expected:
        for side in ("left", "right"):
            choice[side] = {name: choice[side][name] for name in ("prompt", "way", "strength", "control")}
    assert written["choices"] == expected and written["pairs"] == 8
    assert written["trial"] == json.loads((folder / "trial.json").read_text())["trial"]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["report.html", "preferences.html"])
def test_pages_are_for_everybody(trial: Any, page: str) -> None:
    check_page(trial[0] / "trial" / page)


@pytest.mark.slow
def test_a_killed_trial_resumes_to_the_edits_of_an_uninterrupted_one(trial: Any, tmp_path: Path) -> None:
    words = arguments(tmp_path)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = subprocess.Popen([sys.executable, "-m", "tav_core", *words], cwd=ROOT, env=environment, **quiet)
    while not (tmp_path / "trial" / "edits" / f"{EDITS[1]}.json").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = states(tmp_path)
    assert not (tmp_path / "trial" / "trial.json").exists()
    assert main(words) == 0
    after, uninterrupted = states(tmp_path), states(trial[0])
    done = [name for name in before if name.removesuffix(".mp4").removesuffix(".json") in EDITS[:2]]
    assert len(done) == 4 and all(after[name] == before[name] for name in done)
    for name in EDITS:
        assert after[f"{name}.mp4"][1] == uninterrupted[f"{name}.mp4"][1]
        records = [json.loads(one[f"{name}.json"][1]) for one in (after, uninterrupted)]
        assert records[0]["figures"] == records[1]["figures"]


@pytest.mark.slow
def test_weights_of_ones_own_are_tried_by_each_way_with_a_control(tmp_path: Path) -> None:
    """A model of Stable Diffusion 1.5's blocks at a small width, and a ControlNet made of it that draws edges."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    model, control = make_folder(tmp_path / "private-model"), tmp_path / "private-control"
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8, 8)).save_pretrained(control)
    changes = dict(model=model, control=control, hint="canny", ways=["published", "content", "look"])
    assert main(arguments(tmp_path, **changes, tuning_steps=1, width=64, height=64)) == 0
    text = (tmp_path / "trial" / "trial.json").read_text()
    public = json.loads(text)
    assert "private" not in text and public["model"]["bundled"] is False
    assert public["model"]["block_out_channels"] == list(UNET["block_out_channels"])
    assert len(public["edits"]) == 2 * 2 * 3 * 2 and {edit["control"] for edit in public["edits"]} == {False, True}
    guidance = {edit["way"]: edit["settings"]["sampling"]["guidance_scale"] for edit in public["edits"]}
    assert guidance == {"published": 12.5, "content": 7.5, "look": 7.5}
    tuned = [edit for edit in public["edits"] if edit["steps"].get("tune")]
    assert [edit["control"] for edit in tuned] == [False, True], "tuned once without the control and once under it"
