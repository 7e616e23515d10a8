"""The attention recorder: one layout for all kinds, by block and timestep, at bounded memory."""

import pytest
import torch
from torch import Tensor

from tav_core import AttentionMap, SamplingConfig, inflate, record_attention, sample
from tav_core.diffusion import guidance
from tav_core.unet.video_unet import VideoUNet
from tests.conftest import EPSILON, MakeUNet, draw

LATENTS, TEXT, EMPTY = draw(1, 4, 3, 6, 10), draw(1, 5, 12, seed=1), draw(1, 5, 12, seed=2)
KEYS = {"attn1": lambda s: 2 * s, "attn2": lambda s: 5, "attn_temp": lambda s: 3}


@pytest.fixture
def video_unet(make_unet: MakeUNet) -> VideoUNet:
    """With a temporal attention that acts."""
    model = inflate(make_unet("sd2"))
    for index, block in enumerate(model.blocks.values()):
        weight = block.attn_temp.to_out[0].weight.data
        weight.copy_(0.1 * draw(*weight.shape, seed=index))
    return model.requires_grad_(False)


def test_all_kinds_have_one_layout(video_unet: VideoUNet) -> None:
    expected = video_unet(LATENTS, 500, TEXT)
    with record_attention(video_unet, mean=False) as recorder:
        got = video_unet(LATENTS, 500, TEXT)
    torch.testing.assert_close(got, expected)
    assert sorted((m.block, m.kind) for m in recorder.maps) == sorted((b, k) for b in video_unet.blocks for k in KEYS)
    for found in recorder.maps:
        s, heads = found.size[0] * found.size[1], video_unet.blocks[found.block].attn1.heads
        assert found.size in ((6, 10), (3, 5), (2, 3)) and found.timestep == 500
        assert found.probabilities.shape == (1, 3, heads, s, KEYS[found.kind](s))
        torch.testing.assert_close(found.probabilities.sum(-1), torch.ones(1, 3, heads, s))


def test_the_mean_is_that_of_the_heads(video_unet: VideoUNet) -> None:
    maps: list[list[AttentionMap]] = []
    for mean in (False, True):
        with record_attention(video_unet, mean=mean) as recorder:
            video_unet(LATENTS, 500, TEXT)
        maps.append(recorder.maps)
    for each, together in zip(*maps, strict=True):
        torch.testing.assert_close(together.probabilities, each.probabilities.mean(2, keepdim=True))


def test_a_frame_attends_to_the_first_and_the_former_one(video_unet: VideoUNet) -> None:
    """A key that all queries meet is in the place of the frame it was put into."""
    block = next(iter(video_unet.blocks))
    for shown, (first, former) in {0: ((0, 1, 2), (0, 1)), 1: ((), (2,)), 2: ((), ())}.items():

        def bright(module: object, args: object, keys: Tensor, shown: int = shown) -> Tensor:
            keys = torch.zeros_like(keys)
            keys[shown] = 1e4
            return keys

        hooks = [
            video_unet.blocks[block].attn1.to_k.register_forward_hook(bright),
            video_unet.blocks[block].attn1.to_q.register_forward_hook(lambda m, a, q: torch.ones_like(q)),
        ]
        with record_attention(video_unet, kinds=["attn1"], blocks=[block]) as recorder:
            video_unet(LATENTS, 500, TEXT)
        for hook in hooks:
            hook.remove()
        halves = recorder.maps[0].probabilities.unflatten(-1, (2, -1)).sum(-1)[0, :, 0].mean(1)  # f 2
        for frame in range(3):
            where = {0: frame in first, 1: frame in former}
            if any(where.values()):
                expected = torch.tensor([float(where[0]), float(where[1])])
                torch.testing.assert_close(halves[frame], expected / expected.sum())
            else:
                torch.testing.assert_close(halves[frame], torch.tensor([0.5, 0.5]), msg="all keys are alike")


@pytest.mark.parametrize("pixels", [10**9, 0], ids=["one batch", "two calls"])
def test_guidance_gives_both_prompts_in_one_order(
    video_unet: VideoUNet, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guidance, "ONE_BATCH_PIXELS", pixels)
    block, config = next(iter(video_unet.blocks)), SamplingConfig(2, guidance_scale=3.0)
    with record_attention(video_unet, kinds=["attn2"]) as recorder:
        steps = list(sample(video_unet, LATENTS, TEXT, EMPTY, EPSILON, config))
    both = recorder.probabilities("attn2", block, steps[0].timestep)
    alone = []
    for text in (TEXT, EMPTY):
        with record_attention(video_unet, kinds=["attn2"], blocks=[block]) as recorder:
            video_unet(LATENTS, steps[0].timestep, text)
        alone.append(recorder.maps[0].probabilities)
    assert both.shape[0] == 2
    torch.testing.assert_close(both, torch.cat(alone))


def test_kinds_blocks_and_timesteps_are_chosen(video_unet: VideoUNet) -> None:
    block = list(video_unet.blocks)[1]
    chosen = dict(kinds=("attn_temp",), blocks=[block], timesteps=[501])
    with record_attention(video_unet, **chosen) as recorder:
        steps = list(sample(video_unet, LATENTS, TEXT, None, EPSILON, SamplingConfig(4, guidance_scale=1.0)))
    assert 501 in {step.timestep for step in steps} and len(steps) == 4
    assert [(m.kind, m.block, m.timestep) for m in recorder.maps] == [("attn_temp", block, 501)]
    with pytest.raises(KeyError, match="was recorded at timestep 1"):
        recorder.probabilities("attn_temp", block, 1)
    for wrong in ({"kinds": ["cross"]}, {"blocks": ["mid"]}):
        with pytest.raises(ValueError, match="must be one of"), record_attention(video_unet, **wrong):
            pass


def test_memory_is_bounded(video_unet: VideoUNet) -> None:
    with record_attention(video_unet) as recorder:
        video_unet(LATENTS, 500, TEXT)
    total = sum(m.probabilities.nbytes for m in recorder.maps)
    with record_attention(video_unet, max_bytes=total):
        video_unet(LATENTS, 500, TEXT)
    with (
        pytest.raises(MemoryError, match=r"pass max_bytes .* choose kinds"),
        record_attention(video_unet, max_bytes=total - 1),
    ):
        video_unet(LATENTS, 500, TEXT)
    seen: list[AttentionMap] = []
    with record_attention(video_unet, max_bytes=0, each=seen.append) as recorder:
        video_unet(LATENTS, 500, TEXT)
    assert not recorder.maps and sum(m.probabilities.nbytes for m in seen) == total


def test_scores_are_made_in_pieces(video_unet: VideoUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = []
    for at_once in (2**26, 40):
        monkeypatch.setattr("tav_core.unet.attention.SCORES_AT_ONCE", at_once)
        with record_attention(video_unet) as recorder:
            video_unet(LATENTS, 500, TEXT)
        maps.append([m.probabilities for m in recorder.maps])
    for whole, pieces in zip(*maps, strict=True):
        torch.testing.assert_close(whole, pieces)


def test_clips_at_two_timesteps_are_refused(video_unet: VideoUNet) -> None:
    with pytest.raises(ValueError, match="one timestep for all clips"), record_attention(video_unet):
        video_unet(LATENTS.repeat(2, 1, 1, 1, 1), torch.tensor([1, 2]), TEXT.repeat(2, 1, 1))


@pytest.mark.parametrize(("name", "given"), [("kinds", "attn2"), ("blocks", "mid_block"), ("timesteps", 500)])
def test_one_in_place_of_a_list_is_refused(video_unet: VideoUNet, name: str, given: object) -> None:
    with (
        pytest.raises(TypeError, match=f"{name} are several: give a list"),
        record_attention(video_unet, **{name: given}),
    ):  # type: ignore[arg-type]
        pass


def test_choices_may_come_from_an_iterator(video_unet: VideoUNet) -> None:
    with record_attention(video_unet, kinds=iter(["attn2"]), timesteps=iter([500])) as recorder:  # type: ignore[arg-type]
        video_unet(LATENTS, 500, TEXT)
    assert len(recorder.maps) == len(video_unet.blocks)
