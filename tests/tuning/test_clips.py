"""Several clips of one motion: as a batch, in an editor, and from files."""

from pathlib import Path

import pytest
import torch

from tav_core import (
    ClipEditor,
    Conditioning,
    EditJob,
    InversionConfig,
    SamplingConfig,
    TuningConfig,
    inflate,
    load_model,
    run_edit,
    trainable_parameters,
    tune,
    tune_clip,
    write_video,
)
from tav_core.cli.main import main
from tav_core.job.runner import KeptForNext
from tav_core.tuning.clips import batch_of_clips
from tests.clips import caption_of, clip_of
from tests.conftest import EPSILON, MakeUNet, draw

FIRST, OTHER = draw(1, 4, 3, 6, 6), draw(1, 4, 3, 6, 6, seed=1)
TEXT, LONGER = draw(1, 5, 12, seed=2), draw(1, 10, 12, seed=3)
PROMPT = "a blue dog runs in the park, flat colours"


def test_clips_and_captions_are_a_batch(make_unet: MakeUNet) -> None:
    latents, captions = batch_of_clips(FIRST, TEXT, [(OTHER, Conditioning(LONGER))])
    assert torch.equal(latents, torch.cat([FIRST, OTHER])) and isinstance(captions, Conditioning)
    assert captions.text.shape == (2, 10, 12) and torch.equal(captions.text[1:], LONGER)
    video_unet = inflate(make_unet())
    with torch.no_grad():  # a caption that is repeated is the caption
        torch.testing.assert_close(video_unet(FIRST, 300, TEXT), video_unet(FIRST, 300, captions.text[:1]))
    assert batch_of_clips(FIRST, TEXT, []) == (FIRST, TEXT)


def test_an_update_sees_one_clip_after_the_other(make_unet: MakeUNet) -> None:
    """The first update of two clips is that of the first alone at the same noise, the second is of the other one."""
    config, seen = TuningConfig(steps=2, learning_rate=1e-2), []
    video_unet = inflate(make_unet())
    video_unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2].clone()))
    run = tune_clip(video_unet, FIRST, TEXT, EPSILON, config, more=[(OTHER, LONGER)])
    assert len(list(run)) == len(run.losses) == 2
    assert torch.equal(seen[0], TEXT.repeat(1, 2, 1)) and torch.equal(seen[1], LONGER)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((draw(1, 4, 2, 6, 6), TEXT), "Clip 2 has 2 frames of 6 x 6 latent pixels and the first one 3 frames of 6 x 6"),
        ((draw(1, 4, 3, 6, 8), TEXT), "Clip 2 has 3 frames of 8 x 6 latent pixels .* as many frames of the same size"),
        ((draw(2, 4, 3, 6, 6), TEXT), "Clip 2 has latents of shape"),
    ],
)
def test_clips_of_another_size_are_refused(make_unet: MakeUNet, more: tuple, message: str) -> None:
    video_unet = inflate(make_unet())
    before = {name: p.clone() for name, p in trainable_parameters(video_unet).items()}
    with pytest.raises(ValueError, match=message):
        tune_clip(video_unet, FIRST, TEXT, EPSILON, more=[more])
    assert all(torch.equal(p, before[name]) for name, p in trainable_parameters(video_unet).items())


def test_one_caption_for_two_clips_is_refused(make_unet: MakeUNet) -> None:
    with pytest.raises(ValueError, match="batch 1 and the latents 2: give one prompt for each clip"):
        next(tune(inflate(make_unet()), torch.cat([FIRST, OTHER]), TEXT, EPSILON))


@pytest.mark.slow
def test_an_editor_tunes_on_all_and_edits_its_own_from_new_noise() -> None:
    frames, other, model = clip_of(2)[:, :32, :32], clip_of(2, coat="blue")[:, :32, :32], load_model()
    config = TuningConfig(steps=2, learning_rate=1e-3, loss="debiased")
    with pytest.raises(ValueError, match="Clip 2 has 1 frames of 4 x 4 latent pixels and the first one 2"):
        ClipEditor(model, frames, caption_of(), more_clips=[(other[:1], caption_of(coat="blue"))])
    with pytest.raises(TypeError, match="the caption of clip 2 must be text"):
        ClipEditor(model, frames, caption_of(), more_clips=[(other, None)])  # type: ignore[list-item]
    editor = ClipEditor(model, frames, caption_of(), more_clips=[(other, caption_of(coat="blue"))])
    alone = ClipEditor(load_model(), frames, caption_of())
    noise, losses = draw(2, 16, 2, 4, 4), []
    for one, given in ((editor, noise), (alone, noise[:1])):
        steps = one.tune(config, noise=[given] * 2, timesteps=[300, 300])
        losses.append([step.loss for step in steps])
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5) and losses[0][1] != losses[1][1]
    *_, last = editor.edit(PROMPT, SamplingConfig(num_inference_steps=2, seed=3), start_from="noise")
    assert last.latents.shape == editor.latents.shape
    for _ in editor.invert(InversionConfig(num_inference_steps=2)):
        pass


@pytest.fixture
def job(tmp_path: Path) -> EditJob:
    files = []
    for name, coat, fps in (("a", "red", 8), ("b", "blue", 8), ("c", "green", 12)):
        files.append(write_video(tmp_path / f"{name}.mkv", clip_of(3, coat=coat), fps))
    return EditJob(
        video=files[0],
        source_prompt=caption_of(),
        more_video=(files[1],),
        more_source_prompt=(caption_of(coat="blue"),),
        prompt=PROMPT,
        output=tmp_path / "edit.mp4",
        objective="debiased",
        start_from="noise",
        **dict(num_frames=2, width=32, height=32, tuning_steps=2, num_inference_steps=2),  # type: ignore[arg-type]
    )


@pytest.mark.slow
def test_a_job_tunes_on_all_its_clips(job: EditJob) -> None:
    report = run_edit(job)
    assert report.settings.tuning.clips_in_turn and report.settings.tuning.loss == "debiased"
    kept = KeptForNext()
    assert len(kept.clip(job).editor._more_clips) == 1
    text = job.output.with_suffix(".job.json").read_text()
    assert "b.mkv" in text and '"objective": "debiased"' in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--more-source-prompt", "x"], "--more-video is given 1 times and --more-source-prompt 2 times"),
        (["--more-video", "c.mkv"], "--more-video is given 2 times and --more-source-prompt 1 times: give one caption"),
        (["--more-video", "c.mkv", "--more-source-prompt", "x"], "Clip 3 has 12 frames per second and the first one 8"),
        (["--control", "x", "--hint", "canny"], "add --no-control-tuning"),
        (["--objective", "mse"], "invalid choice: 'mse'"),
    ],
)
def test_clips_that_do_not_fit_are_one_sentence(
    job: EditJob, options: list[str], message: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(job.output.parent)
    given = ["edit", "--video", str(job.video), "--source-prompt", "a", "--prompt", "b", "--output", "o.mp4"]
    given += ["--more-video", "b.mkv", "--more-source-prompt", "b", "--num-frames", "2", "--width", "32"]
    try:
        status: object = main([*given, "--height", "32", *options])
    except SystemExit as error:  # of argparse
        status = error.code
    error = capsys.readouterr().err.strip()
    assert status in (1, 2) and message in error and not Path("o.mp4").exists()
    assert status == 2 or error.count("\n") == 0
