"""LoRA of peft in an inflated model: it acts wherever it is injected, and tuning leaves it be."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from tav_core import TuningConfig, VideoUNet, inflate, load_tuned, save_tuned, trainable_parameters, tune
from tav_core.unet.modules import FrozenConv2d
from tests.conftest import EPSILON, MakeUNet, draw

LATENTS, TEXT = draw(1, 4, 3, 8, 8), draw(1, 7, 12)
TARGETS = {
    "queries": ["to_q"],
    "outputs": ["to_out.0"],
    "all of the attention": ["to_q", "to_k", "to_v", "to_out.0"],
    "feed-forward": ["ff.net.0.proj", "ff.net.2"],
    "projections": ["proj_in", "proj_out"],
    "convolutions": ["conv1", "conv2", "conv_in"],
    "time embedding": ["time_emb_proj"],
}


def injected(model: nn.Module, targets: list[str]) -> nn.Module:
    """With a LoRA that acts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        inject_adapter_in_model(LoraConfig(r=2, target_modules=targets, init_lora_weights=False), model)
    return model


def predicted(model: VideoUNet, latents: torch.Tensor = LATENTS) -> torch.Tensor:
    with torch.no_grad():
        return model(latents, 437, TEXT)


@pytest.mark.parametrize("shape", ["sd1", "sd2"])
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_lora_acts_alike_before_and_after_inflation(make_unet: MakeUNet, shape: str, targets: list[str]) -> None:
    """And as in the image model, for which one frame is an image."""
    before = inflate(injected(make_unet(shape), targets))
    after = inflate(make_unet(shape))
    injected(after.unet, targets)
    plain, image_unet = predicted(inflate(make_unet(shape))), injected(make_unet(shape), targets)
    image = LATENTS[:, :, :1]
    with torch.no_grad():
        expected = image_unet(image[:, :, 0], 437, TEXT).sample
    torch.testing.assert_close(predicted(before, image)[:, :, 0], expected, atol=1e-5, rtol=1e-4)
    assert (predicted(before) - plain).abs().max() > 1e-3
    assert (predicted(after) - plain).abs().max() > 1e-3


def test_lora_on_the_temporal_attention_acts(make_unet: MakeUNet) -> None:
    model = inflate(make_unet())
    plain = predicted(model)
    injected(model.unet, ["attn_temp.to_out.0"])
    assert (predicted(model) - plain).abs().max() > 1e-3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_tuning_and_saving_concern_the_published_weights(make_unet: MakeUNet, moment: str, tmp_path: Path) -> None:
    names = list(trainable_parameters(inflate(make_unet())))
    if moment == "before":
        model = inflate(injected(make_unet(), ["to_q"]))
    else:
        model = inflate(make_unet())
        injected(model.unet, ["to_q"])
    assert list(trainable_parameters(model)) == names
    lora = {name: p.detach().clone() for name, p in model.unet.named_parameters() if ".lora_" in name}
    assert lora
    for _ in tune(model, LATENTS, TEXT, EPSILON, TuningConfig(steps=2, learning_rate=1e-2)):
        pass
    assert all(torch.equal(lora[name], p) for name, p in model.unet.named_parameters() if name in lora)
    tuned = {name: p.detach().clone() for name, p in trainable_parameters(model).items()}
    assert not torch.equal(tuned[names[0]], trainable_parameters(inflate(make_unet()))[names[0]])
    save_tuned(model, tmp_path / "tuned.safetensors")
    model.reset()
    load_tuned(model, tmp_path / "tuned.safetensors")
    assert all(torch.equal(tuned[name], p) for name, p in trainable_parameters(model).items())


def test_lora_trains_on_frozen_convolutions(make_unet: MakeUNet) -> None:
    model = inflate(make_unet())
    injected(model.unet, ["conv1"])
    assert any(isinstance(module, FrozenConv2d) for name, module in model.unet.named_modules() if "base_layer" in name)
    parts = [p.requires_grad_(True) for name, p in model.unet.named_parameters() if ".lora_" in name]
    model(LATENTS, 437, TEXT).square().sum().backward()
    assert parts and all(part.grad is not None and part.grad.any() for part in parts)


def test_lora_acts_in_half_precision(make_unet: MakeUNet) -> None:
    model = inflate(injected(make_unet().bfloat16(), ["to_q", "to_out.0"]))
    expected = predicted(inflate(injected(make_unet(), ["to_q", "to_out.0"])))
    torch.testing.assert_close(predicted(model), expected, atol=0.05, rtol=0)


def test_hooks_on_attentions_and_their_layers_are_called(make_unet: MakeUNet) -> None:
    model, called = inflate(make_unet()), []
    block = next(iter(model.blocks.values()))
    for name in ("attn1", "attn2", "attn_temp", "attn1.to_q", "attn2.to_q", "attn_temp.to_out.0"):
        block.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    predicted(model)
    assert set(called) == {"attn1", "attn2", "attn_temp", "attn1.to_q", "attn2.to_q", "attn_temp.to_out.0"}


@pytest.mark.parametrize("change", ["set_attn_processor", "fuse_qkv_projections"])
def test_processors_of_diffusers_are_refused(make_unet: MakeUNet, change: str) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    unet: UNet2DConditionModel = inflate(make_unet()).unet
    with pytest.raises(ValueError, match="cannot act in an inflated UNet"):
        unet.set_attn_processor(AttnProcessor()) if change == "set_attn_processor" else unet.fuse_qkv_projections()
