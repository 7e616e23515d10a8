"""The three attentions of the spatio-temporal block, against their definitions written out."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import CheckpointPolicy

from tav_core.memory.tracker import MemoryTracker
from tav_core.unet.attention import (
    CrossAttention,
    SelfAttention,
    SparseCausalAttention,
    TemporalAttention,
    _has_fused_kernel,
    attend,
)
from tav_core.unet.block import SpatioTemporalBlock
from tav_core.unet.checkpointing import _store_attention
from tav_core.unet.frames import FrameContext
from tests.conftest import draw


@pytest.fixture
def attn() -> Attention:
    return Attention(query_dim=8, heads=2, dim_head=4).requires_grad_(False)


@pytest.mark.parametrize("frames_at_once", [2, 100])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 5])
def test_sparse_causal_attention_attends_to_first_and_previous_frame(
    attn: Attention, num_frames: int, frames_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tav_core.unet.attention.QUERIES_AT_ONCE", 6 * frames_at_once)
    clip = draw(2, num_frames, 6, 8)
    sparse_causal = SparseCausalAttention(attn, FrameContext(num_frames))
    got = sparse_causal(clip.flatten(0, 1)).unflatten(0, (2, num_frames))
    for frame in range(num_frames):
        # Frames 1 and 2 see frame 1 twice, which is seeing it once.
        seen = [clip[:, 0]] if frame < 2 else [clip[:, 0], clip[:, frame - 1]]
        expected = attn(clip[:, frame], encoder_hidden_states=torch.cat(seen, dim=1))
        torch.testing.assert_close(got[:, frame], expected)


def test_no_frame_but_the_first_attends_to_itself(attn: Attention) -> None:
    keys = []
    attn.to_k.register_forward_hook(lambda module, args, output: keys.append(output))
    clip = draw(4, 6, 8).requires_grad_()
    out = SparseCausalAttention(attn, FrameContext(4))(clip)
    keys[0].retain_grad()
    out[2].sum().backward()
    assert [bool(grad.any()) for grad in keys[0].grad] == [True, True, False, False]


def test_temporal_attention_mixes_frames_of_one_position_without_order(attn: Attention) -> None:
    clip, temporal = draw(2, 3, 6, 8), TemporalAttention(attn, FrameContext(3))
    got = temporal(clip.flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(got[1, :, 4], attn(clip[1, :, 4][None])[0])
    shuffled = temporal(clip[:, [2, 0, 1]].flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(shuffled, got[:, [2, 0, 1]])


def test_cross_attention_attends_to_the_clips_text_in_each_frame() -> None:
    attn = Attention(query_dim=8, cross_attention_dim=5, heads=2, dim_head=4).requires_grad_(False)
    hidden_states, text = draw(6, 4, 8), draw(2, 7, 5)
    got = CrossAttention(attn, FrameContext(3))(hidden_states, attn.to_k(text), attn.to_v(text))
    torch.testing.assert_close(got, attn(hidden_states, encoder_hidden_states=text.repeat_interleave(3, dim=0)))


@pytest.mark.parametrize("checkpointing", [False, "selective", True])
def test_a_block_in_pieces_equals_the_block_and_projects_the_text_once(
    checkpointing: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, block = make_block()
    block.context.num_frames, block.context.checkpointing = 3, checkpointing
    for parameter in block.attn_temp.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    block.double()
    frames, text, rows = draw(6, 7, 8).double(), draw(2, 5, 5, seed=1).double(), []
    block.attn2.to_k.register_forward_hook(lambda module, args, output: rows.append(len(output)))

    def step() -> tuple[Tensor, ...]:
        out = block(frames, text)
        return out, *torch.autograd.grad(out.square().sum(), list(block.attn_temp.parameters()))

    whole = step()
    monkeypatch.setattr("tav_core.unet.block.POSITIONS_AT_ONCE", 2 * len(frames))  # 2 of 7 positions of each frame
    ran = []
    block.ff.register_forward_hook(lambda module, args, output: ran.append(output.shape[1]))
    torch.testing.assert_close(step(), whole)
    assert ran[:4] == [2, 2, 2, 1] and rows == [2, 2]


@pytest.mark.parametrize(
    ("operation", "stored"),
    [
        ("_scaled_dot_product_flash_attention_for_cpu", True),
        ("_scaled_dot_product_efficient_attention", True),
        ("_scaled_dot_product_cudnn_attention", True),
        ("_scaled_dot_product_attention_math", False),
        ("mm", False),
    ],
)
def test_selective_checkpointing_stores_the_fused_kernels_result_alone(operation: str, stored: bool) -> None:
    policy = CheckpointPolicy.MUST_SAVE if stored else CheckpointPolicy.PREFER_RECOMPUTE
    assert _store_attention(None, SimpleNamespace(__name__=operation)) == policy


@pytest.mark.parametrize("checkpointing", ["selective", True])
def test_nothing_is_checkpointed_without_a_backward_pass(
    monkeypatch: pytest.MonkeyPatch, checkpointing: bool | str
) -> None:
    _, block = make_block()
    block.context.num_frames, block.context.checkpointing = 3, checkpointing
    monkeypatch.setattr("tav_core.unet.checkpointing.checkpoint", lambda *_, **__: pytest.fail("checkpointed"))
    with torch.no_grad():
        block(draw(3, 7, 8), draw(1, 5, 5))


@pytest.mark.parametrize("positions", [64, 65, 66, 67])
def test_a_block_has_four_pieces_at_most(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, block = make_block()
    block.context.num_frames, ran = 3, []
    monkeypatch.setattr("tav_core.unet.block.POSITIONS_AT_ONCE", 1)
    block.ff.register_forward_hook(lambda module, args, output: ran.append(output.shape[1]))
    block(draw(3, positions, 8), draw(1, 5, 5))
    assert len(ran) == 4 and sum(ran) == positions


@pytest.mark.parametrize("autocast", [False, True])
def test_upcast_attention_computes_in_float32(attn: Attention, autocast: bool) -> None:
    attn.upcast_attention = True
    q, k, v = (20 * draw(1, 6, 8, seed=seed).bfloat16() for seed in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        got = attend(SelfAttention(attn, FrameContext()), q, k, v)
    heads = (t.float().unflatten(-1, (2, 4)).transpose(1, 2) for t in (q, k, v))
    expected = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(-2).bfloat16()
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, expected)


@pytest.mark.parametrize("checkpointing", [False, "selective", True])
def test_without_a_fused_kernel_queries_attend_in_pieces(
    monkeypatch: pytest.MonkeyPatch, checkpointing: bool | str
) -> None:
    _, block = make_block()
    block.double()
    block.context.num_frames, block.context.checkpointing = 3, checkpointing
    frames, text = draw(3, 256, 8).double().requires_grad_(), draw(1, 7, 5).double()

    def step() -> tuple[list[torch.Tensor], int]:
        with MemoryTracker() as ledger, sdpa_kernel(kernels):
            loss = block(frames, text).square().sum()
            gradients = torch.autograd.grad(loss, [frames, *block.attn_temp.parameters()])
        return [loss, *gradients], ledger.peak

    kernels = SDPBackend.FLASH_ATTENTION
    fused, _ = step()
    kernels = SDPBackend.MATH
    _, whole_scores = step()
    monkeypatch.setattr("tav_core.unet.attention._has_fused_kernel", lambda *_: False)
    monkeypatch.setattr("tav_core.unet.attention.SCORES_AT_ONCE", 2 * 2 * 256 * 10)  # ten queries of each head
    in_pieces, fewer_scores = step()
    torch.testing.assert_close(in_pieces, fused)
    assert fewer_scores < whole_scores / 2


def test_a_cpu_has_a_fused_kernel_and_an_unknown_device_none() -> None:
    tokens = [draw(1, 2, 6, 8)] * 3
    assert _has_fused_kernel(*tokens)
    assert not _has_fused_kernel(*(t.to("meta") for t in tokens))


@pytest.mark.parametrize("kernels", [(), ("flash",), ("efficient",)])
@pytest.mark.parametrize("arguments", [6, 7], ids=["torch 2.4", "torch 2.5"])
def test_fused_kernels_of_cuda_are_looked_up(
    monkeypatch: pytest.MonkeyPatch, kernels: tuple[str, ...], arguments: int
) -> None:
    def params(*given: object) -> tuple[object, ...]:
        if len(given) != arguments:
            raise TypeError("incompatible constructor arguments")
        return given

    monkeypatch.setattr("tav_core.unet.attention.SDPAParams", params)
    for kernel in ("flash", "efficient"):
        monkeypatch.setattr(f"tav_core.unet.attention.can_use_{kernel}_attention", lambda _, k=kernel: k in kernels)
    with FakeTensorMode():
        tokens = [torch.empty(1, 2, 6, 8, device="cuda")] * 3
        assert _has_fused_kernel(*tokens) == bool(kernels)


def make_block(
    attention: str = "sparse_causal", **options: object
) -> tuple[BasicTransformerBlock, SpatioTemporalBlock]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image_block = BasicTransformerBlock(8, 2, 4, cross_attention_dim=5, **options).requires_grad_(False)
    block = SpatioTemporalBlock(image_block, FrameContext(1), attention)
    block.initialise_temporal(torch.Generator().manual_seed(0))
    return image_block, block


@pytest.mark.parametrize(
    "options", [{}, {"attention_bias": True}, {"norm_elementwise_affine": False, "norm_eps": 1e-3}]
)
def test_block_of_one_frame_starts_as_the_image_block(options: dict[str, object]) -> None:
    image_block, block = make_block(**options)
    hidden_states, text = draw(2, 6, 8), draw(2, 7, 5)
    torch.testing.assert_close(
        block(hidden_states, encoder_hidden_states=text), image_block(hidden_states, encoder_hidden_states=text)
    )
    assert image_block.state_dict().keys() <= block.state_dict().keys()
    assert block.norm_temp.eps == block.norm1.eps
    assert (block.norm_temp.weight is None) == (block.norm1.weight is None)


def test_per_frame_block_keeps_the_image_models_self_attention() -> None:
    image_block, block = make_block("per_frame")
    block.context.num_frames = 3
    frames, text = draw(3, 6, 8), draw(1, 7, 5)
    torch.testing.assert_close(
        block(frames, encoder_hidden_states=text), image_block(frames, encoder_hidden_states=text.expand(3, -1, -1))
    )


def test_output_projection_starts_at_zero_without_the_global_generator() -> None:
    image_block = BasicTransformerBlock(8, 2, 4, cross_attention_dim=5)
    before = torch.get_rng_state()
    block = SpatioTemporalBlock(image_block, FrameContext(1), "sparse_causal")
    block.initialise_temporal(torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.any() for parameter in block.attn_temp.to_out.parameters())
    assert all(projection.weight.std() > 0.1 for projection in (block.attn_temp.to_q, block.attn_temp.to_v))
    block.context.num_frames = 2
    torch.testing.assert_close(block.attn_temp(draw(2, 3, 8)), torch.zeros(2, 3, 8))
