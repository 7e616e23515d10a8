"""Methods of the image model's UNet that an inflated one cannot honour: they raise, and name the remedy."""

import copy

import pytest
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, PAGIdentitySelfAttnProcessor2_0

from tav_core import inflate
from tav_core.unet.refused import REMEDIES
from tests.conftest import MakeUNet


@pytest.mark.parametrize("name", REMEDIES)
def test_methods_without_effect_raise(make_unet: MakeUNet, name: str) -> None:
    unet = make_unet()
    if not hasattr(unet, name):
        pytest.skip(f"this diffusers has no {name}")
    video_unet = inflate(unet)
    with pytest.raises(ValueError, match=f"{name} cannot act in an inflated UNet: .*[a-z]"):
        getattr(video_unet.unet, name)(1)


def test_other_models_keep_their_methods(make_unet: MakeUNet) -> None:
    inflate(make_unet())
    other = make_unet()
    other.set_attn_processor(AttnProcessor())
    other.enable_gradient_checkpointing()
    assert other.is_gradient_checkpointing


def test_a_copy_of_an_inflated_model_refuses_too(make_unet: MakeUNet) -> None:
    video_unet = copy.deepcopy(inflate(make_unet()))
    with pytest.raises(ValueError, match="leave the call out"):
        video_unet.unet.set_attention_slice("auto")


def test_a_processor_of_ones_own_is_refused_before_inflation(make_unet: MakeUNet) -> None:
    class Recording(AttnProcessor):
        pass

    for processor in (Recording(), PAGIdentitySelfAttnProcessor2_0()):
        unet = make_unet()
        unet.set_attn_processor(processor)
        with pytest.raises(ValueError, match=f"attention processor {type(processor).__name__}, which would not run"):
            inflate(unet)
        unet.set_attn_processor(AttnProcessor2_0())
        inflate(unet)


def test_gradient_checkpointing_is_refused_before_inflation(make_unet: MakeUNet) -> None:
    unet: UNet2DConditionModel = make_unet()
    unet.enable_gradient_checkpointing()
    with pytest.raises(ValueError, match="call unet.disable_gradient_checkpointing.. first"):
        inflate(unet)
    unet.disable_gradient_checkpointing()
    inflate(unet)
