"""Keys leave out neutral settings, so that a new option or a changed default leaves the meaning of old keys alone."""

from dataclasses import fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from tav_core import InversionConfig, Store, TuningConfig, VideoUNet, inflate
from tav_core.store import keys
from tav_core.store.keys import CHANGES_ROUNDING, NEUTRAL, result_key
from tav_core.unet.adapters import Adapter
from tav_core.unet.block import SpatioTemporalBlock
from tests.conftest import EPSILON, MakeUNet, draw
from tests.tuning.test_tuning_state import LATENTS, TEXT


def extended(config: type, **options: Any) -> Any:
    """A config class of the same name with other defaults, or with more settings."""
    added = [(name, type(default), default) for name, default in options.items()]
    return make_dataclass(config.__name__, added, bases=(config,), frozen=True)


@pytest.mark.parametrize("config", [TuningConfig, InversionConfig])
def test_a_new_option_at_its_default_keeps_the_key(make_unet: MakeUNet, config: Any) -> None:
    video_unet, with_option = inflate(make_unet()), extended(config, new_option=1)

    def key(settings: Any) -> str:
        return result_key(video_unet, LATENTS, TEXT, EPSILON, settings)

    assert key(config()) == key(with_option()) == key(with_option(new_option=1))
    assert key(with_option(new_option=2)) != key(config())


def test_a_new_option_finds_an_old_entry(make_unet: MakeUNet, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with_option = extended(TuningConfig, new_option=1)
    list(store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, TuningConfig(steps=2)))
    found = store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, with_option(steps=2))
    assert len(found.steps) == 2 and list(found) == []
    assert store.tune(inflate(make_unet()), LATENTS, TEXT, EPSILON, with_option(steps=2, new_option=2)).steps == []


def test_a_changed_default_changes_the_key_of_the_default_alone(make_unet: MakeUNet) -> None:
    video_unet, changed = inflate(make_unet()), extended(TuningConfig, steps=600)

    def key(config: Any) -> str:
        return result_key(video_unet, LATENTS, TEXT, EPSILON, config)

    assert key(changed()) == key(TuningConfig(steps=600)) != key(TuningConfig())
    assert key(changed(steps=500)) == key(TuningConfig(steps=500)) == key(TuningConfig())


def test_a_new_option_of_the_inflation_keeps_the_key(make_unet: MakeUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    video_unet = inflate(make_unet())

    def key() -> str:
        return result_key(video_unet, LATENTS, TEXT, EPSILON, TuningConfig())

    before = key()
    monkeypatch.setitem(keys.NEUTRAL, "SpatioTemporalBlock", NEUTRAL["SpatioTemporalBlock"] | {"new_option": False})
    monkeypatch.setattr(SpatioTemporalBlock, "new_option", False, raising=False)
    assert key() == before
    next(iter(video_unet.blocks.values())).new_option = True
    assert key() != before


@pytest.mark.parametrize("config", [TuningConfig, InversionConfig])
def test_every_setting_has_a_neutral_value(config: type) -> None:
    """Add a new setting to NEUTRAL, with the value that computes what was computed before there was the setting."""
    assert {field.name for field in fields(config)} - CHANGES_ROUNDING == NEUTRAL[config.__name__].keys()


def test_neutral_values_never_change() -> None:
    """They are part of the meaning of every stored key. A new setting may be added here, nothing else may change."""
    tuning = dict(
        steps=500,
        learning_rate=3e-5,
        lr_schedule="constant",
        warmup_steps=0,
        weight_decay=1e-2,
        betas=(0.9, 0.999),
        eps=1e-8,
        max_grad_norm=1.0,
        gradient_accumulation_steps=1,
        seed=0,
        timestep_range=1.0,
        min_snr_gamma=None,
        compute_dtype=None,
    )
    inversion = dict(num_inference_steps=50, refinements=0, tolerance=1e-5)
    assert keys._settings(TuningConfig(**tuning)) == keys._settings(InversionConfig(**inversion)) == {}
    assert NEUTRAL["SpatioTemporalBlock"] == {
        "attention": "sparse_causal",
        "temporal_positions": False,
        "temporal": True,
    }


def test_settings_that_differ_are_in_the_key() -> None:
    config = TuningConfig(steps=7, betas=[0.9, 0.999], max_grad_norm=1, compute_dtype=torch.bfloat16)
    assert keys._settings(config) == {"steps": 7, "compute_dtype": torch.bfloat16}


def hooked(video_unet: VideoUNet) -> None:
    video_unet.unet.mid_block.register_forward_hook(lambda module, args, output: output / 2)


def overridden(video_unet: VideoUNet) -> None:
    video_unet.unet.mid_block.resnets[0].forward = lambda images, time_embedding: images


def replaced(video_unet: VideoUNet) -> None:
    class Plain(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images

    video_unet.unet.conv_norm_out = Plain()


def adapted(video_unet: VideoUNet) -> None:
    class Own(Adapter):
        pass

    video_unet.adapter = Own(video_unet.unet, video_unet.blocks)


def controlled(video_unet: VideoUNet) -> None:
    video_unet.context.control = lambda q, k, v, site, attend: attend(q, k, v)


@pytest.mark.parametrize("change", [hooked, overridden, replaced, adapted, controlled])
def test_a_changed_model_is_stored_under_a_tag_alone(make_unet: MakeUNet, tmp_path: Path, change: Any) -> None:
    """Without the change: the plain model's result would be found."""
    clip, text, config = draw(1, 4, 2, 8, 8), draw(1, 5, 12), TuningConfig(steps=1)
    plain, changed = inflate(make_unet()), inflate(make_unet())
    for _ in Store(tmp_path).tune(plain, clip, text, EPSILON, config):
        pass
    change(changed)
    with pytest.raises(ValueError, match=r'The model has .*tag="my change"'):
        Store(tmp_path).tune(changed, clip, text, EPSILON, config)
    with pytest.raises(ValueError, match=r'The model has .*tag="my change"'):
        Store(tmp_path).invert(changed, clip, text, EPSILON)
    tagged = Store(tmp_path, tag="mine")
    assert len(list(tagged.tune(changed, clip, text, EPSILON, config))) == 1
    again = inflate(make_unet())
    change(again)
    assert len(list(tagged.tune(again, clip, text, EPSILON, config))) == 0
    assert len(list(tagged.tune(inflate(make_unet()), clip, text, EPSILON, replace(config, seed=1)))) == 1


def test_a_lora_has_a_key_of_its_own(make_unet: MakeUNet, tmp_path: Path) -> None:
    clip, text, config = draw(1, 4, 2, 8, 8), draw(1, 5, 12), TuningConfig(steps=1)
    with_lora = inflate(make_unet())
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), with_lora.unet)
    keys = {result_key(model, clip, text, EPSILON, config) for model in (inflate(make_unet()), with_lora)}
    assert len(keys) == 2
