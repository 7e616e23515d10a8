"""The strength of a tuning: what the model sees in an edit, with the tuning and without, and which trial is best."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tav_core import ClipEditor, InversionConfig, SamplingConfig, Trial, TuningConfig, load_model
from tav_core.demo import shapes as world
from tav_core.editing.strength import invert_and_sample, judge
from tav_core.models.codec import encode_frames

CAPTION, PROMPT = "a blue ring on a forest background", "a yellow ring on a forest background"
SAMPLING, INVERSION = SamplingConfig(4, guidance_scale=2.5), InversionConfig(4)


def drawn(colour: str) -> Tensor:
    scene = world.Scene("ring", colour, "forest", 60, 60, 23)
    return torch.from_numpy(np.stack([world.draw(s)[0] for s in world.moving(scene, np.array([(60, 60), (66, 62)]))]))


@pytest.fixture(scope="module")
def editor() -> ClipEditor:
    """Tuned on a clip that shows what no caption says, a white corner."""
    frames = drawn("blue")
    frames[:, :24, :24] = 1
    editor = ClipEditor(load_model(), frames, CAPTION)
    for _ in editor.tune(TuningConfig(steps=25, learning_rate=1e-3, timestep_range=0.8)):
        pass
    return editor


def judged(editor: ClipEditor, latents: Tensor) -> Trial:
    texts = editor._embed(PROMPT), editor._embed(CAPTION)
    return judge(editor.set_strength, editor.video_unet, 0.5, latents, *texts, editor.model.scheduler)


def test_what_was_asked_and_what_was_kept_are_told_apart(editor: ClipEditor) -> None:
    asked = judged(editor, encode_frames(editor.model, drawn("yellow")))
    frames = drawn("yellow")
    frames[:, :24, :24] = 1
    both = judged(editor, encode_frames(editor.model, frames))
    kept = judged(editor, editor.latents)
    assert asked.asked > 0.05 and both.asked > 0.01 and kept.asked < -0.01
    assert kept.kept > asked.kept + 0.02 and both.kept > asked.kept + 0.02
    assert (asked.strength, both.strength) == (0.5, 0.5)
    assert best([asked, both, kept]) is both


def test_judging_is_the_same_each_time_and_leaves_the_tuning_in_place(editor: ClipEditor) -> None:
    editor.set_strength(1.0)
    before = {name: tensor.clone() for name, tensor in editor.video_unet.state_dict().items()}
    first, again = judged(editor, editor.latents), judged(editor, editor.latents)
    assert (first.asked, first.kept) == (again.asked, again.kept)
    assert all(torch.equal(tensor, before[name]) for name, tensor in editor.video_unet.state_dict().items())


def test_an_edit_is_judged_without_the_tuning_and_with_all_of_it(editor: ClipEditor) -> None:
    placed, texts = [], (editor._embed(PROMPT), editor._embed(CAPTION))

    def place(strength: float) -> None:
        placed.append(strength)
        editor.set_strength(strength)

    judge(place, editor.video_unet, 0.5, editor.latents, *texts, editor.model.scheduler)
    assert placed == [0.0, 1.0]


def test_a_judgement_that_is_no_number_is_refused(editor: ClipEditor) -> None:
    hook = editor.video_unet.unet.conv_out.register_forward_hook(
        lambda *_: torch.full_like(editor.latents[0], torch.nan)
    )
    before = tuned_weights(editor)
    try:
        with pytest.raises(FloatingPointError, match="Judging an edit at timestep 300"):
            judged(editor, editor.latents)
    finally:
        hook.remove()
    assert all(torch.equal(weight, before[name]) for name, weight in tuned_weights(editor).items())


def tuned_weights(editor: ClipEditor) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in editor.video_unet.state_dict().items()}


@pytest.mark.parametrize("pass_", [1, 6], ids=["inverting", "sampling"])
def test_trials_that_break_off_leave_the_tuning_in_place(editor: ClipEditor, pass_: int) -> None:
    editor.set_strength(1)
    before, calls = tuned_weights(editor), []

    def interrupt(*_: object) -> None:
        calls.append(1)
        if len(calls) == pass_:
            raise KeyboardInterrupt

    hook = editor.video_unet.unet.conv_out.register_forward_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(editor.try_strengths(PROMPT, SAMPLING, strengths=[0.25], inversion=INVERSION))
    finally:
        hook.remove()
    assert all(torch.equal(weight, before[name]) for name, weight in tuned_weights(editor).items())


def test_trials_from_a_noise_invert_nothing(editor: ClipEditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClipEditor, "invert", lambda *_: pytest.fail("inverted"))
    noise = torch.randn(editor.latents.shape, generator=torch.Generator().manual_seed(0))
    (trial,) = editor.try_strengths(PROMPT, SAMPLING, strengths=[0.5], noise=noise)
    assert trial.latents.shape == noise.shape


@pytest.mark.parametrize("keep", ["nothing", "noise"])
def test_trials_are_the_edits_that_one_makes_by_hand(editor: ClipEditor, keep: str) -> None:
    trials = list(editor.try_strengths(PROMPT, SAMPLING, strengths=(0.5, 1.0), inversion=INVERSION, keep=keep))
    assert [trial.strength for trial in trials] == [0.5, 1.0]
    with pytest.raises(RuntimeError, match="not been inverted"):
        editor.edit(PROMPT, SAMPLING)
    for trial in trials:
        editor.set_strength(trial.strength)
        for _ in editor.invert(INVERSION):
            pass
        *_, last = editor.edit(PROMPT, SAMPLING, keep=keep)
        assert torch.equal(last.latents, trial.latents)
    assert not torch.equal(trials[0].latents, trials[1].latents)


def test_a_clip_is_inverted_and_sampled_from_the_level_that_denoise_says(editor: ClipEditor) -> None:
    config = replace(SAMPLING, denoise=0.5)
    texts, scheduler = (editor._embed(PROMPT), editor._embed("")), editor.model.scheduler
    steps = list(invert_and_sample(editor.video_unet, editor.latents, *texts, scheduler, config))
    for _ in editor.invert(INVERSION):
        pass
    *_, last = editor.edit(PROMPT, config)
    assert torch.equal(steps[-1].latents, last.latents)
    assert len(steps) == 4 + 2


def trial(strength: float, asked: float, kept: float) -> Trial:
    return Trial(strength, torch.zeros(1), asked, kept)


def test_the_best_trial_is_the_one_whose_worse_side_is_best() -> None:
    weak, middle, strong = trial(0.25, 0.4, 0.02), trial(0.5, 0.3, 0.08), trial(1.0, 0.1, 0.1)
    assert best([weak, middle, strong]) is middle
    assert best([strong]) is strong
    assert best([trial(0.25, 1.0, 0.3), trial(0.5, 0.6, 0.6), trial(1.0, 0.1, 1.0)]).strength == 0.5  # least in the sum
    assert best([trial(0.25, -0.3, 0.1), trial(0.5, -0.1, 0.1)]).strength == 0.5  # none shows the prompt
    with pytest.raises(ValueError, match="try one strength"):
        best([])
