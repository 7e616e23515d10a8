"""What research does with the inflated model: ControlNets, ablation of time, compiling, gradients of gradients."""

from pathlib import Path

import pytest
import torch
import torch._dynamo
from diffusers import ControlNetModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tav_core import (
    ClipEditor,
    InversionConfig,
    SamplingConfig,
    Store,
    TuningConfig,
    TuningState,
    VideoUNet,
    estimate_memory,
    inflate,
    invert,
    load_tuned,
    sample,
    save_tuned,
    trainable_parameters,
    tune,
)
from tav_core.unet.modules import FrozenConv2d
from tests.conftest import EPSILON, MakeUNet, draw

LATENTS, TEXT, HINTS = draw(1, 4, 3, 8, 8), draw(1, 5, 12, seed=1), draw(3, 3, 64, 64, seed=2)


def residuals(make_unet: MakeUNet, images: Tensor, hints: Tensor) -> dict:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        net = ControlNetModel.from_unet(make_unet())
        for name, weight in net.named_parameters():
            if name.startswith("controlnet_"):  # zero at first
                weight.copy_(0.1 * torch.randn(weight.shape))
        down, mid = net(images, 437, TEXT.expand(len(images), -1, -1), hints, return_dict=False)
    return dict(down_block_additional_residuals=down, mid_block_additional_residual=mid)


@pytest.mark.parametrize("frames", [1, 3])
def test_residuals_of_a_controlnet_act_as_in_the_image_model(make_unet: MakeUNet, frames: int) -> None:
    clip, images = LATENTS[:, :, :frames], LATENTS[0].transpose(0, 1)[:frames]
    given = residuals(make_unet, images, HINTS[:frames])
    model = inflate(make_unet(), group_norm="frame", attention="per_frame")
    with torch.no_grad():
        got, plain = model(clip, 437, TEXT, **given), model(clip, 437, TEXT)
        expected = make_unet()(images, 437, TEXT.expand(frames, -1, -1), **given).sample
    torch.testing.assert_close(got[0].transpose(0, 1), expected)
    assert (got - plain).abs().max() > 0.01


def test_features_of_a_t2i_adapter_act_as_in_the_image_model(make_unet: MakeUNet) -> None:
    features = [draw(1, 16, 8, 8, seed=5), draw(1, 32, 4, 4, seed=6)]
    image = LATENTS[:, :, :1]
    with torch.no_grad():
        got = inflate(make_unet())(image, 437, TEXT, down_intrablock_additional_residuals=features)
        again = [feature.clone() for feature in features]
        expected = make_unet()(image[:, :, 0], 437, TEXT, down_intrablock_additional_residuals=again).sample
    torch.testing.assert_close(got[:, :, 0], expected)
    assert len(features) == 2, "the caller's list stays"


def test_residuals_that_do_not_fit_are_refused(make_unet: MakeUNet) -> None:
    model, given = inflate(make_unet()), residuals(make_unet, LATENTS[0].transpose(0, 1), HINTS)
    down, mid = given["down_block_additional_residuals"], given["mid_block_additional_residual"]
    for wrong, message in (
        (given | {"down_block_additional_residuals": down[:-1]}, "adds 4 down_block_additional_residuals"),
        (given | {"mid_block_additional_residual": mid[:1]}, r"here 3 frames, not \(1, "),
        ({"mid_block_additional_residual": mid}, "pass both"),
        ({"down_block_additional_residuals": down}, "pass both"),
    ):
        with pytest.raises(ValueError, match=message):
            model(LATENTS, 437, TEXT, **wrong)


@pytest.mark.slow
def test_without_temporal_attention_the_model_is_the_untuned_one(make_unet: MakeUNet, tmp_path: Path) -> None:
    """Whose temporal attention adds nothing yet; and nothing of it is there to tune."""
    model, whole = inflate(make_unet(), temporal=False), inflate(make_unet())
    with torch.no_grad():
        assert torch.equal(model(LATENTS, 437, TEXT), whole(LATENTS, 437, TEXT))
    assert not [name for name, _ in model.unet.named_parameters() if "_temp" in name]
    published = trainable_parameters(whole)
    assert list(trainable_parameters(model)) == [name for name in published if "attn_temp" not in name]
    config = TuningConfig(steps=1, learning_rate=1e-2)
    before = {name: weight.detach().clone() for name, weight in trainable_parameters(model).items()}
    list(tune(model, LATENTS, TEXT, EPSILON, config))
    assert not any(torch.equal(weight, before[name]) for name, weight in trainable_parameters(model).items())
    save_tuned(model, tmp_path / "tuned.safetensors")
    with pytest.raises(ValueError, match="tuned with temporal=False, this model was inflated with temporal=True"):
        load_tuned(whole, tmp_path / "tuned.safetensors")
    model.reset()
    assert all(torch.equal(weight, before[name]) for name, weight in trainable_parameters(model).items())
    store = Store(tmp_path / "store")
    keys = [store.tune(unet, LATENTS, TEXT, EPSILON, config).key for unet in (model, whole)]
    assert keys[0] != keys[1]
    size = dict(num_frames=3, height=8, width=8)
    assert (
        estimate_memory(model, config, **size).moments < estimate_memory(inflate(make_unet()), config, **size).moments
    )
    with pytest.raises(ValueError, match="leave one of the two options out"):
        inflate(make_unet(), temporal=False, temporal_positions=True)


@pytest.mark.slow
def test_all_functions_take_a_compiled_model(make_unet: MakeUNet, tmp_path: Path) -> None:
    torch._dynamo.reset()
    plain, model = inflate(make_unet()), inflate(make_unet())
    compiled: VideoUNet = torch.compile(model, backend="eager")
    config = TuningConfig(steps=1, learning_rate=1e-3)
    made = []
    for unet, store in ((plain, Store(tmp_path / "plain")), (compiled, Store(tmp_path / "compiled"))):
        for _ in store.tune(unet, LATENTS, TEXT, EPSILON, config):
            pass
        *_, noise = invert(unet, LATENTS, TEXT, EPSILON, InversionConfig(2))
        *_, last = sample(unet, noise.latents, TEXT, None, EPSILON, SamplingConfig(2, guidance_scale=1.0))
        save_tuned(unet, tmp_path / "tuned.safetensors")
        load_tuned(unet, tmp_path / "tuned.safetensors", strength=0.5)
        made.append(last.latents)
    torch.testing.assert_close(*made, atol=1e-4, rtol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] > 0, "it ran compiled"
    TuningState(compiled, config)
    assert ClipEditor(compiled, LATENTS, TEXT, scheduler=EPSILON).video_unet is compiled


def test_gradients_of_gradients(make_unet: MakeUNet) -> None:
    """Against differences of the first gradient, in float64."""
    model = inflate(make_unet().double())
    for name, block in model.blocks.items():
        weight = block.attn_temp.to_out[0].weight.data
        weight.copy_(0.1 * draw(*weight.shape, seed=len(name)))
    assert any(isinstance(module, FrozenConv2d) for module in model.modules())
    clip, text, direction = LATENTS.double(), TEXT.double(), draw(*LATENTS.shape, seed=4).double()

    def slope(x: Tensor, create_graph: bool = False) -> Tensor:
        x = x if x.requires_grad else x.requires_grad_()
        (found,) = torch.autograd.grad(model(x, 437, text).square().sum(), x, create_graph=create_graph)
        return found

    with sdpa_kernel(SDPBackend.MATH):
        x = clip.clone().requires_grad_()
        (second,) = torch.autograd.grad((slope(x, create_graph=True) * direction).sum(), x)
        step = 1e-5
        numeric = (slope(clip + step * direction) - slope(clip - step * direction)) / (2 * step)
    torch.testing.assert_close(second, numeric, rtol=1e-4, atol=1e-6 * float(numeric.abs().max()))
