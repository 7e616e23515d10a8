"""The strength search: scores of an edit by the tuned and the untuned model, and the choice of the best trial."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from tav_core import (
    BaseModel,
    ClipEditor,
    InversionConfig,
    SamplingConfig,
    Trial,
    TuningConfig,
    best_trial,
    edit,
    invert,
    load_model,
)
from tav_core.diffusion.denoiser import Denoiser, unet_denoiser
from tav_core.editing.edit import invert_and_sample, inverted_start
from tav_core.editing.strength import LEVELS, score_edit
from tav_core.models.codec import encode_frames, encode_prompts
from tests.clips import caption_of, clip_of

CAPTION, PROMPT = caption_of(coat="blue"), caption_of(coat="yellow")
SAMPLING, INVERSION = SamplingConfig(4, guidance_scale=2.5), InversionConfig(4)


@pytest.fixture(scope="module")
def editor() -> ClipEditor:
    """Tuned on a clip that shows what no caption says, a white corner."""
    frames = clip_of(coat="blue")
    frames[:, :24, :24] = 1
    editor = ClipEditor(load_model(), frames, CAPTION)
    for _ in editor.tune(TuningConfig(steps=25, learning_rate=2e-3, timestep_range=0.8)):
        pass
    return editor


def denoisers(editor: ClipEditor) -> list[Denoiser]:
    """The model under the prompt and under the caption."""
    return [unet_denoiser(editor.video_unet, editor.schedule, editor._embed(text)) for text in (PROMPT, CAPTION)]


def scored(editor: ClipEditor, latents: Tensor) -> Trial:
    return score_edit(editor.video_unet, 0.5, latents, *denoisers(editor))


def test_scores_tell_the_prompt_from_the_source(editor: ClipEditor) -> None:
    prompted = scored(editor, encode_frames(editor.model, clip_of(coat="yellow")))
    frames = clip_of(coat="yellow")
    frames[:, :24, :24] = 1
    both = scored(editor, encode_frames(editor.model, frames))
    source = scored(editor, editor.latents)
    assert prompted.prompt_score > 0.05 and both.prompt_score > 0.01 and source.prompt_score < -0.01
    assert source.source_score > prompted.source_score + 0.01 and both.source_score > prompted.source_score + 0.02
    assert (prompted.strength, both.strength) == (0.5, 0.5)
    assert best_trial([prompted, both, source]) is both


def test_scoring_is_deterministic_and_restores_the_tuning(editor: ClipEditor) -> None:
    editor.set_strength(1.0)
    before = {name: tensor.clone() for name, tensor in editor.video_unet.state_dict().items()}
    first, again = scored(editor, editor.latents), scored(editor, editor.latents)
    assert (first.prompt_score, first.source_score) == (again.prompt_score, again.source_score)
    assert all(torch.equal(tensor, before[name]) for name, tensor in editor.video_unet.state_dict().items())


def test_an_edit_is_scored_at_strengths_0_and_1(editor: ClipEditor) -> None:
    adapter, strengths = editor.video_unet.adapter, []
    hook = editor.video_unet.register_forward_pre_hook(lambda *_: strengths.append(adapter.scale))
    try:
        score_edit(editor.video_unet, 0.5, editor.latents, *denoisers(editor))
    finally:
        hook.remove()
    assert strengths == [0.0] * 2 * len(LEVELS) + [1.0] * len(LEVELS)
    assert adapter.scale == 1


def test_a_non_finite_score_raises(editor: ClipEditor) -> None:
    hook = editor.video_unet.unet.conv_out.register_forward_hook(
        lambda *_: torch.full_like(editor.latents[0], torch.nan)
    )
    before = tuned_weights(editor)
    try:
        with pytest.raises(FloatingPointError, match="Scoring an edit at timestep 300"):
            scored(editor, editor.latents)
    finally:
        hook.remove()
    assert all(torch.equal(weight, before[name]) for name, weight in tuned_weights(editor).items())


def tuned_weights(editor: ClipEditor) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in editor.video_unet.state_dict().items()}


@pytest.mark.parametrize("pass_", [1, 6], ids=["inverting", "sampling"])
def test_an_interrupted_search_restores_the_tuning(editor: ClipEditor, pass_: int) -> None:
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


def test_search_from_given_noise_does_not_invert(editor: ClipEditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClipEditor, "invert", lambda *_: pytest.fail("inverted"))
    noise = torch.randn(editor.latents.shape, generator=torch.Generator().manual_seed(0))
    (trial,) = editor.try_strengths(PROMPT, SAMPLING, strengths=[0.5], noise=noise)
    assert trial.latents.shape == noise.shape


@pytest.mark.slow
@pytest.mark.parametrize("start_from", ["inversion", "source_branch"])
def test_trials_equal_edits_made_one_by_one(editor: ClipEditor, start_from: str) -> None:
    options = {"inversion": INVERSION, "start_from": start_from}
    trials = list(editor.try_strengths(PROMPT, SAMPLING, strengths=(0.5, 1.0), **options))
    assert [trial.strength for trial in trials] == [0.5, 1.0]
    with pytest.raises(RuntimeError, match="not been inverted"):
        editor.edit(PROMPT, SAMPLING)
    for trial in trials:
        editor.set_strength(trial.strength)
        for _ in editor.invert(INVERSION):
            pass
        *_, last = editor.edit(PROMPT, SAMPLING, start_from=start_from)
        assert torch.equal(last.latents, trial.latents)
    assert not torch.equal(trials[0].latents, trials[1].latents)


@pytest.mark.parametrize("start_from", ["inversion", "source_branch"])
def test_a_search_encodes_each_prompt_once_and_builds_no_schedule(
    editor: ClipEditor, start_from: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, built = [], []

    def encode(model: BaseModel, prompts: list[str], size: tuple[int, int]) -> Tensor:
        encoded.extend(prompts)
        return encode_prompts(model, prompts, size)

    monkeypatch.setattr("tav_core.editor.encode_prompts", encode)
    monkeypatch.setattr("diffusers.DDIMScheduler.__init__", lambda *_, **__: built.append(1))
    options = {"inversion": INVERSION, "start_from": start_from, "negative_prompt": "blurry"}
    list(editor.try_strengths(PROMPT, SAMPLING, strengths=(0.5, 1.0), **options))
    empty = [""] if start_from == "inversion" else []
    assert sorted(encoded) == sorted([CAPTION, PROMPT, "blurry", *empty])
    assert not built
    editor._embed(PROMPT)
    assert encoded[-1] == PROMPT, "after the search prompts are encoded anew"


def test_trials_are_inverted_under_the_prompt_of_the_inversion(editor: ClipEditor) -> None:
    """The command line and the node search by one rule: the negative prompt is that of sampling alone."""
    options = {"inversion": INVERSION, "negative_prompt": PROMPT}
    (trial,) = editor.try_strengths(CAPTION, SAMPLING, strengths=[0.5], **options)
    editor.set_strength(0.5)
    texts = [editor._embed(text) for text in (CAPTION, PROMPT)]
    run = partial(invert_and_sample, editor.video_unet, editor.latents, *texts, editor.schedule, SAMPLING)
    *_, same = run(inverted_under=editor._embed(""))
    *_, other = run(inverted_under=texts[1])
    assert torch.equal(same.latents, trial.latents) and not torch.equal(other.latents, trial.latents)


def test_a_partway_edit_starts_at_the_inversions_latents_of_that_level(editor: ClipEditor) -> None:
    config = replace(SAMPLING, denoise=0.5)
    video_unet, schedule, empty = editor.video_unet, editor.schedule, editor._embed("")
    steps = list(invert(video_unet, editor.latents, empty, schedule, INVERSION))
    start = inverted_start(steps, schedule, config)
    steps += edit(video_unet, start, editor._embed(PROMPT), empty, schedule, config)
    for _ in editor.invert(INVERSION):
        pass
    *_, last = editor.edit(PROMPT, config)
    assert torch.equal(steps[-1].latents, last.latents)
    assert len(steps) == 4 + 2


def trial(strength: float, prompt_score: float, source_score: float) -> Trial:
    return Trial(strength, torch.zeros(1), prompt_score, source_score)


def test_the_best_trial_has_the_highest_lower_score() -> None:
    weak, middle, strong = trial(0.25, 0.4, 0.02), trial(0.5, 0.3, 0.08), trial(1.0, 0.1, 0.1)
    assert best_trial([weak, middle, strong]) is middle
    assert best_trial([strong]) is strong
    assert (
        best_trial([trial(0.25, 1.0, 0.3), trial(0.5, 0.6, 0.6), trial(1.0, 0.1, 1.0)]).strength == 0.5
    )  # least in the sum
    assert best_trial([trial(0.25, -0.3, 0.1), trial(0.5, -0.1, 0.1)]).strength == 0.5  # none shows the prompt
    with pytest.raises(ValueError, match="try one strength"):
        best_trial([])
