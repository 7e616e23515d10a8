"""ClipEditor: tuning, inversion and edits of one clip together."""

from dataclasses import replace

import pytest
import torch
from diffusers import T2IAdapter
from peft import LoraConfig, inject_adapter_in_model

from tav_core import (
    ClipEditor,
    HintControl,
    InversionConfig,
    NoisePrediction,
    SamplingConfig,
    TuningConfig,
    encode_frames,
    encode_prompts,
    inflate,
    load_model,
    plain_noise,
    reconstruct,
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
    clip, text, runs = editor.latents, editor._embed(CAPTION).text, []

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
            outputs.append(editor.video_unet(editor.latents, 300, editor._embed(CAPTION).text)[:, :, 1])
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
    assert torch.equal(edited, last(editor.edit(prompt, replace(config, seed=0), noise=drawn)))
    assert not torch.equal(edited, last(editor.edit(prompt, replace(config, seed=6), start_from="noise")))
    with pytest.raises(ValueError, match="Set denoise to 1"):
        editor.edit(prompt, replace(config, denoise=0.5), start_from="noise")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_from": "all"}, "start_from must be one of"),
        ({"mask": torch.ones(1, 8, 8)}, "source-preserving edit"),
        ({"start_from": "source_branch", "noise": torch.zeros(1, 16, 2, 16, 16)}, "starts from the clip"),
        ({"noise": torch.zeros(1, 16, 3, 16, 16)}, "Noise is like the latents"),
        ({"config": TuningConfig()}, "config must be a SamplingConfig"),
    ],
)
def test_conflicting_options_raise(editor, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        editor.edit(CAPTION, **{"config": SamplingConfig(STEPS)} | options)


def test_latents_of_several_clips_are_refused(editor):
    with pytest.raises(ValueError, match="make an editor for each"):
        ClipEditor(editor.model, torch.cat([editor.latents] * 2), CAPTION)


@pytest.mark.parametrize("controls", [torch.nn.Linear(2, 2), [torch.nn.Linear(2, 2)]])
def test_what_is_no_list_of_controls_is_refused(editor, controls):
    with pytest.raises(TypeError, match="give a list|A control is a HintControl"):
        editor.controls = controls


def test_a_part_of_an_inversion_is_not_reconstructed(editor):
    steps = list(editor.invert(InversionConfig(4)))
    for part, message in ((steps[:2], "ends at timestep 251, a whole one at 501"), ([], "trajectory is empty")):
        with pytest.raises(ValueError, match=message):
            reconstruct(editor.video_unet, part, editor._embed(""), editor.schedule)
    last(reconstruct(editor.video_unet, steps, editor._embed(""), editor.schedule))


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


@pytest.mark.parametrize("change", ["loaded", "trained by hand", "written through .data", "frozen", "LoRA injected"])
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
    elif change == "frozen":
        with torch.no_grad():
            editor.video_unet.unet.conv_in.weight.mul_(1.1)
    elif change == "LoRA injected":
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["attn1.to_q"]), editor.video_unet.unet)
    else:
        next(iter(weights.values())).data.add_(0.01)
    with pytest.raises(RuntimeError, match=r"weights have changed .* run invert\(\) again"):
        editor.edit(CAPTION, SamplingConfig(num_inference_steps=2))


PROMPT, SHORT = "a red ring on a forest background", SamplingConfig(STEPS, guidance_scale=3.0)


def tuned(editor: ClipEditor, seed: int = 0) -> list[float]:
    return [step.loss for step in editor.tune(TuningConfig(steps=2, learning_rate=1e-2, seed=seed))]


def test_an_inflated_model_with_latents_and_embeddings_gives_the_same_edit(frames):
    whole, model = ClipEditor(load_model(), frames, CAPTION), load_model()
    words = {text: encode_prompts(model, [text]) for text in (CAPTION, PROMPT, "")}
    parts = ClipEditor(inflate(model.unet), encode_frames(model, frames), words[CAPTION], scheduler=model.scheduler)
    assert tuned(parts) == tuned(whole)
    last(whole.invert(InversionConfig(STEPS)))
    last(parts.invert(InversionConfig(STEPS), words[""]))
    made = last(parts.edit(words[PROMPT], SHORT, negative_prompt=words[""]))
    assert torch.equal(made, last(whole.edit(PROMPT, SHORT)))
    for call in (lambda: parts.edit("a star", SHORT), lambda: parts.decode(made)):
        with pytest.raises(RuntimeError, match="An inflated UNet alone has no autoencoder and no text encoder"):
            call()
    with pytest.raises(TypeError, match="give scheduler="):
        ClipEditor(parts.video_unet, parts.latents, words[CAPTION])


def test_a_base_model_takes_latents_and_shows_them(frames):
    model = load_model()
    editor = ClipEditor(model, encode_frames(model, frames), CAPTION)
    assert torch.equal(editor.frames, editor.decode(editor.latents)) and editor.frames.shape == frames.shape


def test_clips_share_a_model_and_keep_their_weights_strength_and_inversion(frames):
    """As if each had a model of its own, in whichever order their steps are taken."""
    clips, prompts = (frames, frames.flip(2)), (CAPTION, "a ring")

    def results(first: ClipEditor, second: ClipEditor) -> list[object]:
        runs = [editor.tune(TuningConfig(steps=2, learning_rate=1e-2)) for editor in (first, second)]
        losses = [next(run).loss for run in runs] + [next(run).loss for run in runs] + [next(run, None) for run in runs]
        first.set_strength(0.5)
        for editor in (first, second):
            last(editor.invert(InversionConfig(STEPS)))
        edits = [first.edit(PROMPT, SHORT), second.edit(PROMPT, SHORT)]
        latents = [next(run).latents for run in edits] + [last(run) for run in edits]
        strengths = [editor.video_unet.adapter.scale for editor in (first, second)]
        return [losses, strengths, *latents]

    alone = results(*(ClipEditor(load_model(), *clip) for clip in zip(clips, prompts, strict=True)))
    model = load_model()
    shared = results(*(ClipEditor(model, *clip) for clip in zip(clips, prompts, strict=True)))
    assert alone[:2] == shared[:2] and shared[1] == [0.5, 1.0]
    assert all(torch.equal(one, other) for one, other in zip(alone[2:], shared[2:], strict=True))


def test_a_clip_starts_untuned_after_another_one_is_gone(frames):
    model = load_model()
    first = ClipEditor(model, frames, CAPTION)
    untuned = {name: weight.detach().clone() for name, weight in trainable_parameters(first.video_unet).items()}
    tuned(first)
    del first
    second = ClipEditor(model, frames, CAPTION)
    assert all(torch.equal(weight, untuned[name]) for name, weight in trainable_parameters(second.video_unet).items())
    with pytest.raises(ValueError, match="inflated with attention='sparse_causal', not 'per_frame'"):
        ClipEditor(model, frames, CAPTION, attention="per_frame")


def test_save_and_load_bring_back_tuning_strength_and_inversion(editor, frames, tmp_path):
    tuned(editor)
    editor.set_strength(0.5)
    last(editor.invert(InversionConfig(STEPS)))
    expected = last(editor.edit(PROMPT, SHORT))
    editor.save(tmp_path / "clip.safetensors")
    other = ClipEditor(load_model(), frames, CAPTION)
    other.load(tmp_path / "clip.safetensors")
    assert other.video_unet.adapter.scale == 0.5
    assert torch.equal(last(other.edit(PROMPT, SHORT)), expected)
    editor.set_strength(1.0)
    other.set_strength(1.0)
    weights = trainable_parameters(editor.video_unet)
    assert all(torch.equal(weight, weights[name]) for name, weight in trainable_parameters(other.video_unet).items())
    with pytest.raises(RuntimeError, match="not been inverted"):
        other.edit(PROMPT, SHORT)


def test_a_stale_inversion_is_not_saved_and_another_clip_is_refused(editor, frames, tmp_path):
    last(editor.invert(InversionConfig(STEPS)))
    with torch.no_grad():
        next(iter(trainable_parameters(editor.video_unet).values())).add_(0.01)
    editor.save(tmp_path / "clip.safetensors")
    editor.load(tmp_path / "clip.safetensors")
    with pytest.raises(RuntimeError, match="not been inverted"):
        editor.edit(PROMPT, SHORT)
    other = ClipEditor(load_model(), frames.flip(2), CAPTION)
    before = {name: weight.detach().clone() for name, weight in trainable_parameters(other.video_unet).items()}
    with pytest.raises(ValueError, match="saved of another clip"):
        other.load(tmp_path / "clip.safetensors")
    assert all(torch.equal(weight, before[name]) for name, weight in trainable_parameters(other.video_unet).items())


def test_decoding_is_differentiable_where_asked(editor):
    latents = editor.latents.clone().requires_grad_()
    assert not editor.decode(latents).requires_grad
    with torch.no_grad():
        shown = editor.decode(latents, differentiable=True)
    assert torch.equal(shown, editor.decode(latents))
    shown[0].mean().backward()
    assert latents.grad[:, :, 0].any() and not latents.grad[:, :, 1].any(), "each frame is decoded alone"


def test_a_seed_without_effect_is_refused(editor):
    last(editor.invert(InversionConfig(STEPS)))
    seeded = replace(SHORT, seed=3)
    for start_from in ("noise", "source_branch"):
        editor.edit(PROMPT, seeded, start_from=start_from)
    editor.edit(PROMPT, replace(seeded, eta=0.5))
    for options in ({}, {"start_from": "noise", "noise": torch.randn_like(editor.latents)}):
        with pytest.raises(ValueError, match="seed 3 has no effect"):
            editor.edit(PROMPT, seeded, **options)


def test_own_weights_and_losses_reach_tuning(editor):
    names = [name for name, _ in editor.video_unet.unet.named_parameters() if "conv_in" in name]
    for _ in editor.tune(TuningConfig(steps=1), parameters=names, objective=NoisePrediction(5.0)):
        pass
    assert list(trainable_parameters(editor.video_unet)) == names
    assert len(tuned(editor)) == 2 and len(trainable_parameters(editor.video_unet)) == 49


def test_a_control_steers_every_stage_and_another_one_discards_the_inversion(editor):
    """One that does not fit changes nothing."""
    torch.manual_seed(0)
    network = T2IAdapter(channels=list(editor.video_unet.unet.config.block_out_channels), num_res_blocks=1)
    plain = [last(editor.invert(InversionConfig(STEPS))), last(editor.edit(PROMPT, SHORT))]
    hints = torch.rand(len(editor.frames), *editor.frames.shape[1:])
    editor.controls = [HintControl(network, hints)]
    assert not editor.trajectory
    steered = [last(editor.invert(InversionConfig(STEPS))), last(editor.edit(PROMPT, SHORT))]
    assert not any(map(torch.equal, plain, steered))
    with pytest.raises(ValueError, match="resize it"):
        editor.controls = [HintControl(network, hints[:, ::2])]
    assert editor.trajectory and editor.controls
    editor.controls = []
    assert torch.equal(last(editor.invert(InversionConfig(STEPS))), plain[0])
