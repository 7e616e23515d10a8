"""ClipEditor: tuning, inversion and edits of one clip together."""

from dataclasses import replace

import pytest
import torch

from tav_core import (
    ClipEditor,
    InversionConfig,
    SamplingConfig,
    TuningConfig,
    load_model,
    plain_noise,
    trainable_parameters,
)
from tav_core.store.tuned import apply_tuned
from tests.clips import caption_of, clip_of, drawing_of

CAPTION = caption_of(coat="blue")
STEPS = 5


@pytest.fixture(scope="module")
def frames():
    return clip_of(coat="blue")


@pytest.fixture
def editor(frames):
    return ClipEditor(load_model(), frames, CAPTION)


def last(steps):
    *_, step = steps
    return step.latents


def test_edit_without_an_inversion_raises(editor):
    with pytest.raises(RuntimeError, match="not been inverted"):
        editor.edit(CAPTION)


def test_strength_scales_the_second_of_two_tunings(editor):
    for seed in (0, 7):
        list(editor.tune(TuningConfig(steps=1, learning_rate=1e-2, seed=seed)))
        tuned = {name: tensor.clone() for name, tensor in editor.video_unet.state_dict().items()}
        editor.set_strength(0.5)
        editor.set_strength(1.0)
        assert all(torch.equal(tensor, tuned[name]) for name, tensor in editor.video_unet.state_dict().items())


def test_tuning_discards_the_inversion(editor):
    last(editor.invert(InversionConfig(STEPS)))
    next(editor.tune(TuningConfig(steps=1)))
    with pytest.raises(RuntimeError, match="not been inverted"):
        editor.edit(CAPTION, SamplingConfig(STEPS))


def test_an_unfinished_inversion_cannot_be_sampled(editor):
    next(iter(editor.invert(InversionConfig(STEPS))))
    with pytest.raises(ValueError, match="did not pass"):
        editor.edit(CAPTION, SamplingConfig(STEPS))


def test_unequal_numbers_of_steps_raise(editor):
    last(editor.invert(InversionConfig(STEPS)))
    with pytest.raises(ValueError, match="same num_inference_steps"):
        editor.edit(CAPTION, SamplingConfig(STEPS + 2))


def test_partway_sampling_stays_nearer_to_the_clip(editor):
    last(editor.invert(InversionConfig(10)))
    prompt = caption_of(coat="red")
    far, near = (
        (last(editor.edit(prompt, SamplingConfig(10, guidance_scale=3.0, denoise=share))) - editor.latents)
        .square()
        .mean()
        for share in (1.0, 0.2)
    )
    assert near < far / 2


def test_noise_given_by_the_caller_is_used(editor):
    noise = plain_noise(tuple(editor.latents.shape), 3)
    config = SamplingConfig(STEPS, guidance_scale=2.0)
    first, again = last(editor.edit("a crab", config, noise=noise)), last(editor.edit("a crab", config, noise=noise))
    other = last(editor.edit("a crab", config, noise=plain_noise(tuple(noise.shape), 4)))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_strength_is_measured_from_the_tuning_and_discards_the_inversion(editor):
    clip, text, runs = editor.latents, editor._embed(CAPTION), []

    @torch.no_grad()
    def predicted():
        return editor.video_unet(clip, 300, text)

    untuned = predicted()
    for _ in range(2):  # a strength does not show in the next tuning
        runs.append([step.loss for step in editor.tune(TuningConfig(steps=3, learning_rate=1e-2))])
        tuned = predicted()
        last(editor.invert(InversionConfig(STEPS)))
        editor.set_strength(0.5)
        half = predicted()
        with pytest.raises(RuntimeError, match="not been inverted"):
            editor.edit(CAPTION)
        editor.set_strength(0.0)
        torch.testing.assert_close(predicted(), untuned)
        editor.set_strength(1.0)
        assert torch.equal(predicted(), tuned)
        assert (half - tuned).abs().max() > 1e-3 and (half - untuned).abs().max() > 1e-3
    assert runs[0] == runs[1]
    with pytest.raises(ValueError, match="strength must be a number in"):
        editor.set_strength(float("nan"))


def test_same_seed_same_video(frames):
    def run():
        editor = ClipEditor(load_model(), frames, CAPTION)
        losses = [step.loss for step in editor.tune(TuningConfig(steps=3, learning_rate=1e-3, seed=7))]
        last(editor.invert(InversionConfig(STEPS)))
        edit = editor.edit(caption_of(coat="red"), SamplingConfig(STEPS, guidance_scale=3.0))
        return losses, editor.decode(last(edit))

    (losses, video), (losses_again, video_again) = run(), run()
    assert losses == losses_again
    assert torch.equal(video, video_again)


def test_per_frame_attention_does_not_see_other_frames(frames):
    """Without sparse-causal attention and before tuning, a frame's prediction does not depend on the other one."""
    changed = frames.clone()
    changed[0] = 1 - changed[0]
    outputs = []
    for clip in (frames, changed):
        editor = ClipEditor(load_model(), clip, CAPTION, group_norm="frame", attention="per_frame")
        with torch.no_grad():
            outputs.append(editor.video_unet(editor.latents, 300, editor._embed(CAPTION))[:, :, 1])
    torch.testing.assert_close(*outputs)


def test_source_preserving_edit_reproduces_the_clip_under_its_caption_and_locks_a_mask(editor):
    config = SamplingConfig(STEPS, guidance_scale=3.0, denoise=0.6)
    prompt, mask = caption_of(coat="red", place="moon"), torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    assert torch.equal(last(editor.edit(CAPTION, config, start_from="source_branch")), editor.latents)
    free, masked = (last(editor.edit(prompt, config, start_from="source_branch", mask=m)) for m in (None, mask))
    assert torch.equal(masked[..., 8:], editor.latents[..., 8:])
    assert (free - editor.latents).abs()[..., 8:].max() > 0.1
    assert (masked - editor.latents).abs()[..., :8].max() > 0.1


def test_an_edit_from_noise_starts_from_the_noise_of_its_seed(editor):
    prompt, config = caption_of(coat="red", place="moon"), SamplingConfig(STEPS, guidance_scale=3.0, seed=5)
    edited = last(editor.edit(prompt, config, start_from="noise"))
    drawn = plain_noise(tuple(editor.latents.shape), 5)
    assert torch.equal(edited, last(editor.edit(prompt, config, noise=drawn)))
    assert not torch.equal(edited, last(editor.edit(prompt, replace(config, seed=6), start_from="noise")))
    with pytest.raises(ValueError, match="Set denoise to 1"):
        editor.edit(prompt, replace(config, denoise=0.5), start_from="noise")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_from": "all"}, "start_from must be one of"),
        ({"mask": torch.ones(1, 8, 8)}, "source-preserving edit"),
        ({"start_from": "source_branch", "noise": torch.zeros(1, 16, 2, 16, 16)}, "starts from the clip"),
    ],
)
def test_conflicting_options_raise(editor, options, message):
    with pytest.raises(ValueError, match=message):
        editor.edit(CAPTION, SamplingConfig(STEPS), **options)


def test_deflickering_the_unedited_clip_restores_it_exactly(editor, frames):
    decoded = editor.decode(editor.latents)
    assert (decoded - frames).abs().max() > 0.01
    assert torch.equal(torch.stack(list(editor.deflicker(decoded))), frames)


def test_heat_maps_show_where_words_act() -> None:
    """The figure under "runs": the text encoder reads from left to right, so that this token holds the red dog too."""
    drawing, prompt = drawing_of(4, place="moon"), caption_of(place="moon")
    editor = ClipEditor(load_model(), torch.from_numpy(drawing.frames), prompt)
    *_, last = editor.heat_maps(prompt)
    words = dict(editor.word_heat_maps(prompt, last.maps))
    on_dog = torch.nn.functional.avg_pool2d(torch.from_numpy(drawing.figure_mask).float()[:, None], 8)[:, 0] > 0.5
    assert words["runs"].shape == (4, 16, 16)
    assert words["runs"][on_dog].mean() > 3 * words["runs"][~on_dog].mean()
    assert words["moon"][~on_dog].mean() > 1.2 * words["moon"][on_dog].mean()


@pytest.mark.parametrize("change", ["loaded", "trained by hand", "written through .data"])
def test_an_inversion_by_other_weights_is_not_sampled(editor: ClipEditor, change: str) -> None:
    before = {name: weight.detach().clone() for name, weight in trainable_parameters(editor.video_unet).items()}
    for _ in editor.invert(InversionConfig(num_inference_steps=2)):
        pass
    weights = trainable_parameters(editor.video_unet)
    if change == "loaded":
        apply_tuned(editor.video_unet, {name: weight + 0.01 for name, weight in before.items()})
    elif change == "trained by hand":
        with torch.no_grad():
            next(iter(weights.values())).add_(0.01)
    else:
        next(iter(weights.values())).data.add_(0.01)
    with pytest.raises(RuntimeError, match=r"weights have changed .* run invert\(\) again"):
        editor.edit(CAPTION, SamplingConfig(num_inference_steps=2))
