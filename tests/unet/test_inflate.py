"""The inflated model against the image model, and what cannot be inflated."""

import copy
import subprocess
import sys

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel, UNetMotionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

from tav_core import inflate, trainable_parameters
from tav_core.unet.block import SpatioTemporalBlock
from tav_core.unet.modules import ClipGroupNorm
from tests.conftest import SD1, MakeUNet, draw


@pytest.mark.parametrize("shape", ["sd1", "sd2"])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (9, 12)])
def test_one_frame_equals_the_image_model(make_unet: MakeUNet, shape: str, size: tuple[int, int]) -> None:
    latents, text = draw(2, 4, 1, *size), draw(2, 7, 12)
    with torch.no_grad():
        got = inflate(make_unet(shape))(latents, 437, text)
        expected = make_unet(shape)(latents[:, :, 0], 437, text).sample
    torch.testing.assert_close(got[:, :, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", ["sd1", "sd2"])
@pytest.mark.parametrize("num_frames", [2, 3, 5])
def test_identical_frames_equal_the_image_model_frame_by_frame(
    make_unet: MakeUNet, shape: str, num_frames: int
) -> None:
    image, text = draw(1, 4, 8, 8), draw(1, 7, 12)
    with torch.no_grad():
        clip = image[:, :, None].expand(-1, -1, num_frames, -1, -1)
        got = inflate(make_unet(shape), group_norm="frame")(clip, 437, text)
        expected = make_unet(shape)(image, 437, text).sample
    for frame in range(num_frames):
        torch.testing.assert_close(got[:, :, frame], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 5])
def test_clips_of_a_batch_do_not_see_each_other(make_unet: MakeUNet, num_frames: int) -> None:
    video_unet = inflate(make_unet())
    latents, text, timesteps = draw(2, 4, num_frames, 8, 6), draw(2, 7, 12), torch.tensor([3, 900])
    with torch.no_grad():
        together = video_unet(latents, timesteps, text)
        alone = [video_unet(latents[i : i + 1], int(timesteps[i]), text[i : i + 1]) for i in range(2)]
    assert together.shape == latents.shape
    torch.testing.assert_close(together, torch.cat(alone))


def test_per_frame_without_clip_statistics_is_the_image_model_on_any_frames(make_unet: MakeUNet) -> None:
    latents, text = draw(1, 4, 3, 8, 8), draw(1, 7, 12)
    with torch.no_grad():
        got = inflate(make_unet(), group_norm="frame", attention="per_frame")(latents, 437, text)
        expected = make_unet()(latents[0].transpose(0, 1), 437, text.expand(3, -1, -1)).sample
    torch.testing.assert_close(got[0].transpose(0, 1), expected)


@pytest.mark.parametrize(("group_norm", "norms"), [("video", 2 * 8 + 1), ("frame", 0)])
def test_modules_are_replaced_and_keys_kept(make_unet: MakeUNet, group_norm: str, norms: int) -> None:
    image_keys = make_unet().state_dict().keys()
    video_unet = inflate(make_unet(), group_norm=group_norm)
    modules = list(video_unet.modules())
    assert sum(isinstance(module, SpatioTemporalBlock) for module in modules) == 4
    assert sum(isinstance(module, ClipGroupNorm) for module in modules) == norms
    new_keys = video_unet.unet.state_dict().keys() - image_keys
    assert image_keys <= video_unet.unet.state_dict().keys()
    assert len(new_keys) == 4 * 7
    assert all(".attn_temp." in key or ".norm_temp." in key for key in new_keys)


def test_only_queries_and_temporal_attention_require_a_gradient(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    trained = trainable_parameters(video_unet)
    assert len(trained) == 4 * 7
    assert {n for n, p in video_unet.unet.named_parameters() if p.requires_grad} == trained.keys()
    assert not any("norm_temp" in name for name in trained)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_trained_weights_in_float32(make_unet: MakeUNet, dtype: torch.dtype) -> None:
    video_unet = inflate(make_unet("sd2").to(dtype))
    trained = trainable_parameters(video_unet)
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    frozen = {p.dtype for n, p in video_unet.unet.named_parameters() if n not in trained}
    assert frozen == {dtype} == {video_unet.dtype}
    latents, text = draw(1, 4, 3, 8, 8), draw(1, 7, 12)
    with torch.no_grad():
        got, expected = video_unet(latents, 437, text), inflate(make_unet("sd2"))(latents, 437, text)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=0.05)


def test_inflation_is_deterministic_and_uses_no_global_generator(make_unet: MakeUNet) -> None:
    unet, before = make_unet(), torch.get_rng_state()
    first, second = inflate(unet).state_dict(), inflate(make_unet()).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_temporal_attention_starts_equal_in_all_dtypes(make_unet: MakeUNet) -> None:
    drawn = [trainable_parameters(inflate(make_unet().to(dtype))) for dtype in (torch.float32, torch.float16)]
    names = [name for name in drawn[0] if ".attn_temp.to_" in name]
    assert names and all(torch.equal(*(parameters[name] for parameters in drawn)) for name in names)


def test_inflated_under_inference_mode_can_train(make_unet: MakeUNet) -> None:
    unet = make_unet()
    with torch.inference_mode():
        video_unet = inflate(unet)
    assert not any(parameter.is_inference() for parameter in video_unet.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reset_restores_the_inflated_weights(make_unet: MakeUNet, dtype: torch.dtype) -> None:
    video_unet = inflate(make_unet().to(dtype))
    before = copy.deepcopy(video_unet.state_dict())
    with torch.inference_mode():
        for parameter in trainable_parameters(video_unet).values():
            parameter.data.add_(1)
        video_unet.reset()
    assert all(torch.equal(before[name], tensor) for name, tensor in video_unet.state_dict().items())


def test_a_copy_counts_its_own_frames(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    twin = copy.deepcopy(video_unet)
    counts: list[tuple[int, int]] = []
    twin.unet.register_forward_hook(lambda *_: counts.append((video_unet.context.num_frames, twin.context.num_frames)))
    with torch.no_grad():
        twin(draw(1, 4, 3, 8, 8), 437, draw(1, 7, 12))
    assert counts == [(1, 3)]
    assert next(iter(twin.blocks.values())).context is twin.context


def test_the_inner_model_called_by_itself_takes_images(make_unet: MakeUNet) -> None:
    video_unet, text = inflate(make_unet()), draw(1, 7, 12)
    images = draw(6, 4, 8, 8)
    with torch.no_grad():
        video_unet(draw(1, 4, 3, 8, 8), 437, text)
        got = video_unet.unet(images[:1], 437, text).sample
        torch.testing.assert_close(got, make_unet()(images[:1], 437, text).sample)
        with pytest.raises(ValueError, match="dimensions"):
            video_unet(images, 437, text)
        torch.testing.assert_close(video_unet.unet(images[:1], 437, text).sample, got)


@pytest.mark.parametrize("checkpointing", [False, "selective", True])
def test_a_backward_pass_may_follow_other_calls(make_unet: MakeUNet, checkpointing: bool | str) -> None:
    video_unet, text = inflate(make_unet()), draw(1, 7, 12)
    weights = list(trainable_parameters(video_unet).values())

    def gradients(between: bool) -> list[torch.Tensor]:
        video_unet.context.checkpointing = checkpointing
        loss = video_unet(draw(1, 4, 3, 8, 8), 437, text).square().sum()
        if between:
            with torch.no_grad():
                video_unet(draw(1, 4, 5, 8, 8), 437, text)
        return list(torch.autograd.grad(loss, weights))

    torch.testing.assert_close(gradients(between=True), gradients(between=False))


@pytest.mark.parametrize(
    ("latents", "text", "message"),
    [
        ((1, 4, 8, 8), (1, 7, 12), "5 dimensions"),
        ((1, 4, 0, 8, 8), (1, 7, 12), "at least one frame"),
        ((1, 4, 3, 8, 8), (1, 7, 16), "width 12, got 16"),
        ((1, 4, 3, 8, 8), (3, 7, 12), "one prompt for each clip"),
        ((1, 4, 3, 8, 8), (7, 12), "dimensions"),
    ],
)
def test_wrong_inputs_raise(make_unet: MakeUNet, latents: tuple[int, ...], text: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inflate(make_unet())(torch.zeros(latents), 1, torch.zeros(text))


def test_a_second_inflation_raises(make_unet: MakeUNet) -> None:
    video_unet = inflate(make_unet())
    for again in (video_unet, video_unet.unet):
        with pytest.raises(ValueError, match="inflated already"):
            inflate(again)


SMALL_3D = {"block_out_channels": (32, 32), "layers_per_block": 1, "cross_attention_dim": 8, "norm_num_groups": 8}


@pytest.mark.parametrize(
    "model",
    [
        lambda: UNet3DConditionModel(
            **SMALL_3D,
            attention_head_dim=8,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        ),
        lambda: UNetMotionModel(
            **SMALL_3D,
            motion_num_attention_heads=2,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        ),
        lambda: torch.nn.Linear(2, 2),
    ],
)
def test_other_models_raise(model: object) -> None:
    with pytest.raises(TypeError, match="Expected a diffusers UNet2DConditionModel"):
        inflate(model())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_class_embeds": 3}, "num_class_embeds=3"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"addition_embed_type": "text"}, "addition_embed_type"),
        ({"encoder_hid_dim": 10, "encoder_hid_dim_type": "text_proj"}, "encoder_hid_dim_type"),
        ({"only_cross_attention": True}, "only_cross_attention"),
        ({"dual_cross_attention": True}, "dual_cross_attention"),
        ({"in_channels": 9}, "9 channels and returns 4"),
        ({"cross_attention_dim": (12, 16)}, "several widths"),
        ({"mid_block_type": "UNetMidBlock2D"}, "UNetMidBlock2D"),
        ({"attention_type": "gated"}, "gated"),
        ({"resnet_skip_time_act": True}, "resnet_skip_time_act"),
        ({"resnet_time_scale_shift": "scale_shift"}, "scale_shift"),
    ],
)
def test_unsupported_unets_raise(make_unet: MakeUNet, changes: dict[str, object], message: str) -> None:
    unet = make_unet(**changes)
    modules = [type(module) for module in unet.modules()]
    with pytest.raises(ValueError, match=message):
        inflate(unet)
    assert [type(module) for module in unet.modules()] == modules


def test_a_unet_with_an_adapter_raises(make_unet: MakeUNet) -> None:
    unet = make_unet()
    unet.mid_block.attentions[0].transformer_blocks[0].attn2.set_processor(IPAdapterAttnProcessor2_0(32, 12))
    with pytest.raises(ValueError, match="adapter"):
        inflate(unet)


def test_a_unet_made_under_inference_mode_raises() -> None:
    with torch.inference_mode():
        unet = UNet2DConditionModel(**SD1)
    with pytest.raises(ValueError, match="inference_mode"):
        inflate(unet)


@pytest.mark.parametrize("option", [{"group_norm": "clip"}, {"attention": "full"}, {"temporal_positions": 1}])
def test_unknown_options_raise(make_unet: MakeUNet, option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        inflate(make_unet(), **option)


def test_core_does_not_import_comfyui() -> None:
    script = (
        "import sys, tav_core\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('nodes', 'folder_paths')"
        " or name.startswith('comfy')])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
