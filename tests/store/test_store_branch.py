"""The steps of a source branch: the second prompt takes over those of the first."""

from dataclasses import replace

import pytest
import torch

from tav_core import ClipEditor, InversionConfig, SamplingConfig, SourceBranch, Store, edit, inflate, invert
from tests.conftest import EPSILON, MakeUNet, draw

CLIP, CAPTION, NEGATIVE = draw(1, 4, 3, 6, 6), draw(1, 5, 12, seed=1), draw(1, 9, 12)
FIRST, SECOND = draw(1, 5, 12, seed=2), draw(1, 5, 12, seed=3)
CONFIG = SamplingConfig(num_inference_steps=3, guidance_scale=4.0, denoise=0.7)  # 2 steps
AWAY = replace(CONFIG, guide_from_caption=True)
LOOK = replace(CONFIG, cross_replace_steps=0.5, self_replace_steps=0.25)


@pytest.fixture
def video_unet(make_unet: MakeUNet):
    return inflate(make_unet())


class Passes:
    """Counts the clips that go through a model, one for each prompt."""

    def __init__(self, video_unet, monkeypatch):
        self.taken, plain = 0, type(video_unet).forward

        def counted(model, x_t, *args, **options):
            self.taken += len(x_t)
            return plain(model, x_t, *args, **options)

        monkeypatch.setattr(type(video_unet), "forward", counted)

    def of(self, steps) -> tuple[int, torch.Tensor]:
        before = self.taken
        *_, last = steps
        return self.taken - before, last.latents


@pytest.mark.parametrize(
    ("start", "config", "passes"),
    [("noise", CONFIG, (8, 4)), ("trajectory", CONFIG, (8, 4)), ("noise", AWAY, (6, 4)), ("noise", LOOK, (8, 6))],
    ids=["negative", "trajectory", "caption", "look"],
)
def test_the_second_prompt_predicts_the_edit_alone(video_unet, tmp_path, monkeypatch, start, config, passes):
    trajectory = None if start == "noise" else list(invert(video_unet, CLIP, NEGATIVE, EPSILON, InversionConfig(3)))
    source, store, counted = SourceBranch(CLIP, CAPTION, trajectory), Store(tmp_path), Passes(video_unet, monkeypatch)
    for prompt, expected in zip((FIRST, SECOND), passes, strict=True):
        _, plain = counted.of(edit(video_unet, source, prompt, NEGATIVE, EPSILON, config))
        taken, latents = counted.of(store.edit(video_unet, source, prompt, NEGATIVE, EPSILON, config))
        assert taken == expected
        assert torch.equal(latents, plain)


@pytest.mark.parametrize(
    "changed",
    [
        {"config": replace(CONFIG, seed=1)},
        {"config": replace(CONFIG, source_guidance_scale=1.0)},
        {"config": replace(CONFIG, denoise=0.4)},
        {"negative": draw(1, 9, 12, seed=5)},
        {"source": SourceBranch(CLIP, draw(1, 5, 12, seed=6))},
        {"source": SourceBranch(CLIP + 1, CAPTION)},
    ],
    ids=["seed", "guidance", "start", "negative", "caption", "clip"],
)
def test_what_decides_the_branch_makes_another_entry(video_unet, tmp_path, changed):
    given = {"source": SourceBranch(CLIP, CAPTION), "negative": NEGATIVE, "config": CONFIG}
    store = Store(tmp_path)
    for options in (given, given | changed):
        for _ in store.edit(video_unet, options["source"], FIRST, options["negative"], EPSILON, options["config"]):
            pass
    assert [entry.kind for entry in store.entries()] == ["branch", "branch"]


def test_other_weights_make_another_entry_and_what_has_no_effect_does_not(video_unet, tmp_path):
    store, source = Store(tmp_path), SourceBranch(CLIP, CAPTION)
    for config in (CONFIG, replace(CONFIG, propagate=False), LOOK):
        list(store.edit(video_unet, source, FIRST, NEGATIVE, EPSILON, config))
    assert len(store.entries()) == 1
    with torch.no_grad():
        next(iter(video_unet.blocks.values())).attn1.to_q.weight.add_(0.1)
    list(store.edit(video_unet, source, FIRST, NEGATIVE, EPSILON, CONFIG))
    assert len(store.entries()) == 2


def test_an_edit_that_is_stopped_keeps_nothing_and_other_starts_have_nothing_to_keep(video_unet, tmp_path):
    store = Store(tmp_path)
    steps = store.edit(video_unet, SourceBranch(CLIP, CAPTION), FIRST, NEGATIVE, EPSILON, CONFIG)
    next(steps)
    steps.close()
    list(store.edit(video_unet, CLIP, FIRST, NEGATIVE, EPSILON, replace(CONFIG, denoise=1.0)))
    replaced = replace(CONFIG, cross_replace_steps=1.0)
    list(store.edit(video_unet, SourceBranch(CLIP, CAPTION), FIRST, NEGATIVE, EPSILON, replaced))
    assert store.entries() == []


def test_a_full_disk_loses_no_edit(video_unet, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError("No space left on device")

    store, source = Store(tmp_path), SourceBranch(CLIP, CAPTION)
    monkeypatch.setattr(store, "_put", full)
    with pytest.warns(UserWarning, match="not stored, so the next prompt predicts it anew: No space left"):
        *_, last = store.edit(video_unet, source, FIRST, NEGATIVE, EPSILON, CONFIG)
    *_, plain = edit(video_unet, source, FIRST, NEGATIVE, EPSILON, CONFIG)
    assert torch.equal(last.latents, plain.latents)


def test_a_model_with_a_hook_is_edited_and_nothing_is_kept(video_unet, tmp_path):
    store = Store(tmp_path)
    handle = video_unet.register_forward_hook(lambda module, inputs, output: None)
    list(store.edit(video_unet, SourceBranch(CLIP, CAPTION), FIRST, NEGATIVE, EPSILON, CONFIG))
    handle.remove()
    assert store.entries() == []


def test_an_editor_with_a_store_keeps_the_branch(video_unet, tmp_path):
    editor = ClipEditor(video_unet, CLIP, CAPTION, store=Store(tmp_path), scheduler=EPSILON)
    list(editor.edit(FIRST, CONFIG, negative_prompt=NEGATIVE, start_from="source_branch"))
    assert [entry.kind for entry in Store(tmp_path).entries()] == ["branch"]
