"""A control stands at every attention of the model: it sees queries, keys and values, and may replace the result."""

import pytest
import torch
from torch import Tensor

from tav_core.unet.attention import Attend, AttentionSite, attention_probabilities
from tav_core.unet.inflate import inflate
from tav_core.unet.video_unet import VideoUNet
from tests.conftest import MakeUNet, draw

LATENTS, TEXT = draw(2, 4, 3, 8, 8), draw(2, 5, 12, seed=1)


@pytest.fixture
def video_unet(make_unet: MakeUNet) -> VideoUNet:
    """With a temporal attention that acts."""
    model = inflate(make_unet("sd1"))
    for index, block in enumerate(model.blocks.values()):
        weight = block.attn_temp.to_out[0].weight.data
        weight.copy_(0.1 * draw(*weight.shape, seed=index))
    return model.requires_grad_(False)


class Watch:
    """Changes nothing."""

    def __init__(self) -> None:
        self.sites: list[AttentionSite] = []
        self.shapes: list[tuple[tuple[int, ...], ...]] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        self.sites.append(site)
        self.shapes.append((tuple(q.shape), tuple(k.shape), tuple(v.shape)))
        return attend(q, k, v)


def test_control_sees_every_attention_once_and_can_leave_the_result_alone(video_unet: VideoUNet) -> None:
    expected, watch = video_unet(LATENTS, 500, TEXT), Watch()
    with video_unet.controlled(watch):
        got = video_unet(LATENTS, 500, TEXT)
    torch.testing.assert_close(got, expected)
    assert torch.equal(video_unet(LATENTS, 500, TEXT), expected)
    kinds = ("attn1", "attn2", "attn_temp")
    assert [site.kind for site in watch.sites] == [*kinds] * len(video_unet.blocks)
    assert {(site.block, site.kind) for site in watch.sites} == {
        (name, kind) for name in video_unet.blocks for kind in kinds
    }
    assert {site.num_frames for site in watch.sites} == {3} and {site.heads for site in watch.sites} == {2}
    frames, text = (6, 64, 16), (2, 5, 16)
    assert watch.shapes[:3] == [(frames,) * 3, (frames, text, text), (frames,) * 3]


@pytest.mark.parametrize("kind", ["attn1", "attn2", "attn_temp"])
def test_control_replaces_the_result(video_unet: VideoUNet, kind: str) -> None:
    """Values of zero are an attention that adds its bias alone, at the chosen attention and at no other."""

    def without(q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        return attend(q, k, torch.zeros_like(v)) if site.kind == kind else attend(q, k, v)

    with video_unet.controlled(without):
        got = video_unet(LATENTS, 500, TEXT)
    for block in video_unet.blocks.values():
        getattr(block, kind).to_v.weight.data.zero_()
    torch.testing.assert_close(got, video_unet(LATENTS, 500, TEXT))


@pytest.mark.parametrize("attention", ["sparse_causal", "per_frame"])
def test_probabilities_are_those_of_the_attention(make_unet: MakeUNet, attention: str) -> None:
    """Of all three kinds: with the values of the keys that they stand for they give what the model computes."""
    results: list[tuple[str, Tensor, Tensor]] = []

    def compare(q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        out = attend(q, k, v)
        found = attention_probabilities(q, k, site)  # b f h s k
        values = v.unflatten(-1, (site.heads, -1))  # (b f) s h d, of the text b n h d
        if site.kind == "attn2":
            seen = values[:, None, None]  # b 1 1 n h d
        else:
            frames = values.unflatten(0, (-1, site.num_frames))  # b f s h d
            if site.kind == "attn_temp":
                seen = frames.transpose(1, 2)[:, None]  # b 1 s f h d
            elif attention == "per_frame":
                seen = frames[:, :, None]  # b f 1 s h d
            else:
                former = frames[:, [0, 0, 1]]
                seen = torch.cat([frames[:, :1].expand_as(former), former], dim=2)[:, :, None]  # b f 1 2s h d
        sums = (found.permute(0, 1, 3, 4, 2)[..., None] * seen).sum(4 - 1)  # b f s h d
        results.append((site.kind, sums.flatten(3).flatten(0, 1), out))
        return out

    model = inflate(make_unet("sd1"), attention=attention).requires_grad_(False)
    with model.controlled(compare):
        model(LATENTS, 500, TEXT)
    assert [kind for kind, _, _ in results] == ["attn1", "attn2", "attn_temp"] * len(model.blocks)
    for _, weighted, out in results:
        torch.testing.assert_close(weighted, out)


def test_a_site_has_timesteps_and_size(video_unet: VideoUNet) -> None:
    watch = Watch()
    with video_unet.controlled(watch):
        video_unet(LATENTS, torch.tensor([3, 4]), TEXT)
    assert {tuple(site.timesteps.tolist()) for site in watch.sites} == {(3, 4)}
    assert {site.size for site in watch.sites} == {(8, 8), (4, 4)}
    assert all(
        shape[0][1] == site.size[0] * site.size[1] for site, shape in zip(watch.sites, watch.shapes, strict=True)
    )


def test_a_control_inside_another_comes_first(video_unet: VideoUNet) -> None:
    """What the outer one is handed is what the inner one attends with; after an error both are gone."""

    def doubled(q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        return attend(2 * q, k, v)

    def tripled(q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        seen.append(q)
        return attend(3 * q, k, v)

    def queries(q: Tensor, k: Tensor, v: Tensor, *, site: AttentionSite, attend: Attend) -> Tensor:
        plain.append(q)
        return attend(6 * q, k, v)

    seen: list[Tensor] = []
    plain: list[Tensor] = []
    before = video_unet(LATENTS, 500, TEXT)
    with video_unet.controlled(queries):
        expected = video_unet(LATENTS, 500, TEXT)
    with video_unet.controlled(tripled), video_unet.controlled(doubled):
        torch.testing.assert_close(video_unet(LATENTS, 500, TEXT), expected)
    torch.testing.assert_close(seen[0], 2 * plain[0])
    with pytest.raises(ZeroDivisionError), video_unet.controlled(tripled), video_unet.controlled(doubled):
        raise ZeroDivisionError
    assert torch.equal(video_unet(LATENTS, 500, TEXT), before)
