"""Prompt-to-prompt: whose queries and keys an edit attends by."""

from dataclasses import replace

import pytest
import torch

from tav_core import SamplingConfig, SourceBranch, edit, inflate, load_model, sample_with_source_branch
from tav_core.editing.attention_maps import record_attention
from tav_core.editing.config import SOURCE_SETTINGS
from tav_core.editing.prompt_to_prompt import CROSS, SELF, Controlled, PromptToPrompt
from tav_core.models.codec import align_prompts
from tav_core.unet.attention import AttentionSite
from tests.conftest import EPSILON, MakeUNet, draw, relative_error

CLIP, CAPTION, PROMPT, NEGATIVE = draw(1, 4, 3, 6, 6), draw(1, 5, 12, seed=1), draw(1, 5, 12, seed=2), draw(1, 5, 12)
CONFIG = SamplingConfig(num_inference_steps=4, guidance_scale=3.0, denoise=0.75)
SITE = AttentionSite("block", CROSS, heads=2, scale=0.5, num_frames=3)


@pytest.fixture
def video_unet(make_unet: MakeUNet):
    return inflate(make_unet())


def edited(video_unet, config, prompt=PROMPT, alignment=None):
    source = SourceBranch(CLIP, CAPTION, alignment=alignment)
    *_, step = sample_with_source_branch(video_unet, source, prompt, NEGATIVE, EPSILON, config)
    return step.latents


def attended(control: PromptToPrompt, kind: str):
    """Which queries, keys and values the second pass attends by."""
    site = replace(SITE, kind=kind)
    first, second = ([draw(3, 4, 8, seed=i) for i in seeds] for seeds in ((0, 1, 2), (3, 4, 5)))
    found = []
    control.keep(*first, site=site, attend=lambda q, k, v: q)
    control.put(*second, site=site, attend=lambda *given: found.extend(given))
    return first, second, found


@pytest.mark.parametrize("kind", [CROSS, SELF])
def test_the_second_pass_looks_where_the_first_one_looked(kind):
    (q, k, _), (_, _, v), found = attended(PromptToPrompt(kinds=frozenset({kind})), kind)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, (q, k, v), strict=True))


def test_other_attentions_are_left_alone():
    _, second, found = attended(PromptToPrompt(kinds=frozenset({SELF})), CROSS)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, second, strict=True))


def test_tokens_take_the_keys_of_those_that_they_stand_for():
    control = PromptToPrompt(torch.tensor([0, 3, -1, 1]), frozenset({CROSS}))
    (_, k, _), (_, own, _), (_, keys, _) = attended(control, CROSS)
    assert torch.equal(keys, torch.stack([k[:, 0], k[:, 3], own[:, 2], k[:, 1]], dim=1))


def test_kept_attention_is_forgotten():
    control = PromptToPrompt(kinds=frozenset({CROSS}))
    attended(control, CROSS)
    assert not control._kept


def test_it_acts_in_its_share_of_the_steps(video_unet, monkeypatch):
    kinds, call = [], Controlled.__call__

    def counting(self, x_t, t):
        kinds.append(set(self.control.__self__.kinds))
        return call(self, x_t, t)

    monkeypatch.setattr(Controlled, "__call__", counting)
    edited(video_unet, replace(CONFIG, cross_replace_steps=1.0, self_replace_steps=0.5))
    assert kinds == 2 * [{CROSS, SELF}] + 2 * [{CROSS, SELF}] + 2 * [{CROSS}]  # source and edit of three steps


def test_the_edit_changes_and_the_caption_alone_does_not(video_unet):
    replaced = replace(CONFIG, cross_replace_steps=1.0)
    assert relative_error(edited(video_unet, replaced), edited(video_unet, CONFIG)) > 1e-4
    assert torch.equal(edited(video_unet, replaced, prompt=CAPTION), CLIP)
    assert torch.equal(edited(video_unet, replace(CONFIG, self_replace_steps=1.0), prompt=CAPTION), CLIP)


@pytest.mark.parametrize(
    ("prompt", "alignment", "message"),
    [
        (draw(1, 7, 12), None, "as long as the caption"),
        (PROMPT, torch.tensor([0, 1, 2, 3, 5]), "from 0 to 4"),
        (PROMPT, torch.arange(4), "5 tokens"),
    ],
)
def test_words_that_do_not_stand_for_each_other_are_refused(video_unet, prompt, alignment, message):
    with pytest.raises(ValueError, match=message):
        edited(video_unet, replace(CONFIG, cross_replace_steps=1.0), prompt, alignment)


@pytest.mark.parametrize("name", SOURCE_SETTINGS)
def test_its_settings_are_refused_where_they_would_do_nothing(video_unet, name):
    value = True if name == "guide_from_caption" else 1.0
    with pytest.raises(ValueError, match=name):
        edit(video_unet, CLIP, PROMPT, NEGATIVE, EPSILON, replace(CONFIG, **{name: value}))


def test_tokens_are_aligned_by_words():
    model = load_model()
    caption = "a pink dog runs on the beach"
    same = align_prompts(model, caption, caption)
    assert same.tolist() == list(range(77))
    swapped = align_prompts(model, caption, "a blue dog runs on the beach")
    assert swapped.tolist() == list(range(77))
    longer = align_prompts(model, caption, "a big pink dog runs on the beach").tolist()
    new = len(model.tokenizer("big", add_special_tokens=False).input_ids)
    assert longer[:2] == [0, 1]
    assert longer[2 : 2 + new] == new * [-1]
    assert longer[2 + new :] == list(range(2, 77 - new))


def test_a_recorder_sees_the_attention_that_was_replaced(video_unet):
    """In the pass of the edit the prompt's maps are those of the caption; the recorder changes nothing."""
    config = replace(CONFIG, guidance_scale=1.0, cross_replace_steps=1.0)
    with record_attention(video_unet, kinds=(CROSS,)) as recorder:
        recorded = edited(video_unet, config)
    first = [m.probabilities for m in recorder.maps if m.timestep == recorder.maps[0].timestep]
    blocks = len(video_unet.blocks)
    assert len(first) == 2 * blocks and all(map(torch.equal, first[:blocks], first[blocks:]))
    assert torch.equal(recorded, edited(video_unet, config))


def test_tokens_of_a_longer_prompt_are_aligned():
    model = load_model()
    caption = " ".join(["dog"] * 70)
    places = align_prompts(model, caption, caption + " runs on a red beach by the sea")
    assert places.shape == (2 * 77,)
    assert places[:71].tolist() == list(range(71))
