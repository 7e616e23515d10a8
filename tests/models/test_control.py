"""ControlNets and T2I-Adapters: what they add is what stock diffusers adds, in every stage."""

from dataclasses import replace

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, T2IAdapter
from torch import Tensor

from tav_core import (
    Conditioning,
    HintControl,
    InversionConfig,
    SamplingConfig,
    SourceBranch,
    Store,
    TuningConfig,
    inflate,
    invert,
    inverted_start,
    load_control,
    reconstruct,
    sample,
    sample_with_source_branch,
    tune,
)
from tav_core.diffusion.denoiser import unet_denoiser
from tav_core.models.folder import ModelError
from tav_core.store.keys import result_key
from tests.conftest import EPSILON, SHAPES, VELOCITY_ZERO_SNR, MakeUNet, draw, relative_error

FRAMES, SIZE = 3, 8
LATENTS, TEXT, NEGATIVE = draw(1, 4, FRAMES, SIZE, SIZE), draw(1, 5, 12, seed=1), draw(1, 5, 12, seed=2)
HINT = draw(FRAMES, 8 * SIZE, 8 * SIZE, 3, seed=3).sigmoid()


def make_controlnet(make_unet: MakeUNet, shape: str = "sd1", seed: int = 4) -> ControlNetModel:
    """With weights that act: a new one adds zero."""
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(make_unet(shape), conditioning_embedding_out_channels=(8, 8, 8, 8))
    for block in (*network.controlnet_down_blocks, network.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.1)
    torch.nn.init.normal_(network.controlnet_cond_embedding.conv_out.weight, std=0.1)
    return network.eval().requires_grad_(False)


def make_adapter(shape: str = "sd1", **changes: int) -> T2IAdapter:
    torch.manual_seed(5)
    return T2IAdapter(channels=list(SHAPES[shape]["block_out_channels"]), num_res_blocks=1, **changes).eval()


def stock_residuals(network, x, t, text, hint, scale):
    """As diffusers' pipelines compute them, for one image."""
    pixels = hint.permute(0, 3, 1, 2)
    if isinstance(network, T2IAdapter):
        return {"down_intrablock_additional_residuals": [scale * feature for feature in network(pixels)]}
    down, mid = network(x, t, text, pixels, conditioning_scale=scale, return_dict=False)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


@pytest.mark.parametrize("kind", ["controlnet", "adapter"])
@pytest.mark.parametrize("shape", ["sd1", "sd2"])
@torch.no_grad()
def test_one_frame_is_that_of_diffusers(make_unet: MakeUNet, shape: str, kind: str) -> None:
    network = make_controlnet(make_unet, shape) if kind == "controlnet" else make_adapter(shape)
    stock, video_unet = make_unet(shape), inflate(make_unet(shape))
    x, hint = LATENTS[:, :, 0], HINT[:1]
    expected = stock(x, 500, TEXT, **stock_residuals(network, x, 500, TEXT, hint, 0.7)).sample
    under = Conditioning(TEXT, (HintControl(network, hint, 0.7),))
    got = unet_denoiser(video_unet, EPSILON, under)(LATENTS[:, :, :1], 500)[:, :, 0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6 * expected.abs().max().item())
    assert relative_error(stock(x, 500, TEXT).sample, expected) > 1e-3, "the control acts"


@torch.no_grad()
def test_a_guided_loop_is_that_of_diffusers(make_unet: MakeUNet) -> None:
    """One frame, DDIM, classifier-free guidance, a ControlNet and an adapter, from a tenth to six tenths of the way."""
    controlnet, adapter, stock = make_controlnet(make_unet), make_adapter(), make_unet()
    controls = HintControl(controlnet, HINT[:1], 0.8, 0.1, 0.6), HintControl(adapter, HINT[:1], 0.5)
    config = SamplingConfig(num_inference_steps=6, guidance_scale=3.0)
    noise, video_unet = LATENTS[:, :, :1], inflate(make_unet())
    prompts = [Conditioning(text, controls) for text in (TEXT, NEGATIVE)]
    *_, last = sample(video_unet, noise, *prompts, VELOCITY_ZERO_SNR, config)
    scheduler = DDIMScheduler(**VELOCITY_ZERO_SNR, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(6)
    x, acted = noise[:, :, 0], 0
    for t in scheduler.timesteps:
        both, text = torch.cat([x, x]), torch.cat([NEGATIVE, TEXT])
        added = stock_residuals(adapter, both, t, text, HINT[:1], 0.5)
        if 0.4 * 999 <= t <= 0.9 * 999:
            acted += 1
            added |= stock_residuals(controlnet, both, t, text, HINT[:1].repeat(2, 1, 1, 1), 0.8)
        negative, positive = stock(both, t, text, **added).sample.chunk(2)
        x = scheduler.step(negative + 3.0 * (positive - negative), t, x).prev_sample
    assert 0 < acted < 6
    assert relative_error(last.latents[:, :, 0], x) < 1e-5


@torch.no_grad()
def test_every_frame_has_its_hint_scale_and_clip(make_unet: MakeUNet) -> None:
    """Of two clips in a batch, each frame gets what the network says of it alone."""
    network, video_unet = make_controlnet(make_unet), inflate(make_unet())
    factors = [1.0, 0.0, 2.0]
    control = HintControl(network, HINT, 0.5, frame_scales=factors)
    x, text = draw(2, 4, FRAMES, SIZE, SIZE, seed=8), torch.cat([TEXT, NEGATIVE])
    added = control.residuals(x, torch.tensor([10, 900]), text)
    for clip, t in ((0, 10), (1, 900)):
        for frame, factor in enumerate(factors):
            image, index = x[clip : clip + 1, :, frame], clip * FRAMES + frame
            alone = stock_residuals(network, image, t, text[clip, None], HINT[frame, None], 0.5 * factor)
            for name, tensors in alone.items():
                for got, expected in zip(_list(added[name]), _list(tensors), strict=True):
                    torch.testing.assert_close(got[index, None], expected, rtol=1e-4, atol=1e-5)
    video_unet(x, torch.tensor([10, 900]), text, **added)


def _list(tensors):
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


@torch.no_grad()
def test_it_acts_from_its_start_to_its_end_for_each_clip(make_unet: MakeUNet) -> None:
    control = HintControl(make_controlnet(make_unet), HINT, start=0.2, end=0.5)
    x, text = LATENTS.repeat(2, 1, 1, 1, 1), TEXT.repeat(2, 1, 1)
    assert control.residuals(x, torch.tensor([900, 100]), text) == {}
    middle = control.residuals(x, torch.tensor([900, 700]), text)["mid_block_additional_residual"]
    assert not middle[:FRAMES].any() and middle[FRAMES:].any()


def test_controls_add_up(make_unet: MakeUNet) -> None:
    first, second = (HintControl(make_controlnet(make_unet, seed=seed), HINT) for seed in (4, 6))
    both, alone, other = (
        Conditioning(TEXT, controls).residuals(LATENTS, 500) for controls in ((first, second), (first,), (second,))
    )
    for name in both:
        for total, *parts in zip(_list(both[name]), _list(alone[name]), _list(other[name]), strict=True):
            torch.testing.assert_close(total, sum(parts))


@pytest.mark.parametrize("kind", ["controlnet", "adapter"])
def test_the_inverted_clip_samples_back_under_the_same_control(make_unet: MakeUNet, kind: str) -> None:
    video_unet = inflate(make_unet())
    control = HintControl(make_controlnet(make_unet) if kind == "controlnet" else make_adapter(), HINT)
    under = Conditioning(TEXT, (control,))
    config = InversionConfig(num_inference_steps=5, refinements=30, tolerance=1e-6)
    trajectory = list(invert(video_unet, LATENTS, under, VELOCITY_ZERO_SNR, config))
    *_, back = reconstruct(video_unet, trajectory, under, VELOCITY_ZERO_SNR)
    *_, without = reconstruct(video_unet, trajectory, TEXT, VELOCITY_ZERO_SNR)
    assert relative_error(back.latents, LATENTS) < 1e-3 < 30 * relative_error(without.latents, LATENTS)


def test_it_acts_in_a_source_preserving_edit(make_unet: MakeUNet) -> None:
    """Under the caption the clip stays; under a prompt the control changes the edit."""
    video_unet, config = inflate(make_unet()), SamplingConfig(num_inference_steps=3, guidance_scale=2.0)
    controls = (HintControl(make_controlnet(make_unet), HINT),)

    def edited(prompt: Tensor, controls=controls) -> Tensor:
        positive, negative, caption = (Conditioning(text, controls) for text in (prompt, NEGATIVE, TEXT))
        source = SourceBranch(LATENTS, caption)
        *_, last = sample_with_source_branch(video_unet, source, positive, negative, EPSILON, config)
        return last.latents

    other = draw(1, 5, 12, seed=7)
    assert torch.equal(edited(TEXT), LATENTS)
    assert relative_error(edited(other), edited(other, ())) > 1e-3


def test_tuning_learns_beside_the_control(make_unet: MakeUNet) -> None:
    """From inference mode too; the control has no gradient, and another tuning comes out."""
    config = TuningConfig(steps=2, learning_rate=1e-2)
    models, losses = [inflate(make_unet()) for _ in range(2)], []
    with torch.inference_mode():
        control = HintControl(make_controlnet(make_unet), HINT)
        for video_unet, controls in zip(models, ((), (control,)), strict=True):
            losses.append([s.loss for s in tune(video_unet, LATENTS, Conditioning(TEXT, controls), EPSILON, config)])
    assert all(abs(one - other) > 1e-4 for one, other in zip(*losses, strict=True))
    assert all(weight.grad is None for weight in control.network.parameters())


def test_stored_results_belong_to_one_control(make_unet: MakeUNet, tmp_path) -> None:
    network, video_unet = make_controlnet(make_unet), inflate(make_unet())
    base = HintControl(network, HINT)
    others = [
        HintControl(network, HINT, scale=0.9),
        HintControl(network, HINT, end=0.9),
        HintControl(network, 1 - HINT),
        HintControl(network, HINT, frame_scales=[1, 1, 0.5]),
        HintControl(make_controlnet(make_unet, seed=6), HINT),
    ]
    configs = TuningConfig(steps=1), InversionConfig(num_inference_steps=2)
    for config in configs:
        conditionings = [TEXT, *(Conditioning(TEXT, (control,)) for control in (base, *others))]
        keys = [result_key(video_unet, LATENTS, text, EPSILON, config) for text in conditionings]
        assert len(set(keys)) == len(keys)
        assert (
            result_key(video_unet, LATENTS, Conditioning(TEXT, (HintControl(network, HINT),)), EPSILON, config)
            == keys[1]
        )
    run = Store(tmp_path).invert(video_unet, LATENTS, Conditioning(TEXT, (base,)), EPSILON, configs[1])
    expected = [step.latents for step in invert(video_unet, LATENTS, Conditioning(TEXT, (base,)), EPSILON, configs[1])]
    assert all(map(torch.equal, (step.latents for step in run), expected))


@pytest.mark.parametrize("kind", ["controlnet", "adapter"])
def test_a_saved_network_loads(make_unet: MakeUNet, tmp_path, kind: str) -> None:
    network = make_controlnet(make_unet) if kind == "controlnet" else make_adapter()
    network.half().save_pretrained(tmp_path)
    loaded = load_control(tmp_path)
    assert type(loaded) is type(network) and not any(p.requires_grad for p in loaded.parameters())
    assert all(torch.equal(p, q.float()) for p, q in zip(loaded.parameters(), network.parameters(), strict=True))


def test_what_is_no_control_is_refused(make_unet: MakeUNet, tmp_path) -> None:
    make_unet().save_pretrained(tmp_path / "unet")
    make_adapter().save_pretrained(tmp_path / "pickled", safe_serialization=False)
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("unet", "holds a UNet2DConditionModel, which cannot steer"),
        ("pickled", "cannot be read"),
        ("empty", "cannot be read"),
        ("nowhere", "There is no ControlNet at"),
    ):
        with pytest.raises(ModelError, match=message):
            load_control(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hint": HINT[:2]}, "hints for 2 frames, the clip has 3"),
        ({"hint": HINT[:, ::2]}, "32 x 64 pixels, the clip 64 x 64"),
        ({"hint": HINT.permute(0, 3, 1, 2)}, r"A hint is \(frames, height, width, 3\)"),
        ({"hint": 255 * HINT}, r"hint must lie in \[0, 1\]"),
        ({"hint": "depth.mp4"}, "hint must be a torch.Tensor"),
        ({"scale": -1}, "scale must"),
        ({"scale": float("nan")}, "scale must"),
        ({"start": 0.6, "end": 0.5}, "ends at 0.5 before it starts at 0.6"),
        ({"frame_scales": [1.0, 2.0]}, "a number for each of the 3 hints"),
        ({"frame_scales": [1.0, -2.0, 1.0]}, r"lie in \[0, 10\]"),
        (
            {"network": T2IAdapter(channels=[8, 32], num_res_blocks=1)},
            r"block_out_channels \[8, 32\], the model \[16, 32\]",
        ),
        ({"network": torch.nn.Linear(2, 2)}, "must be a ControlNetModel or a T2IAdapter"),
    ],
)
def test_bad_controls_are_refused_before_the_first_step(make_unet: MakeUNet, changes: dict, message: str) -> None:
    video_unet = inflate(make_unet())
    with pytest.raises((TypeError, ValueError), match=message):
        control = HintControl(**{"network": make_adapter(), "hint": HINT} | changes)
        next(invert(video_unet, LATENTS, Conditioning(TEXT, (control,)), EPSILON))


def test_another_family_is_refused(make_unet: MakeUNet) -> None:
    control = HintControl(ControlNetModel.from_unet(make_unet(cross_attention_dim=8)), HINT)
    with pytest.raises(ValueError, match="cross_attention_dim 8, the model 12: use one that was made for this family"):
        next(tune(inflate(make_unet()), LATENTS, Conditioning(TEXT, (control,)), EPSILON))


def test_inversion_and_edit_need_one_number_of_steps(make_unet: MakeUNet) -> None:
    """The trajectory of a controlled inversion starts an edit as any other one does."""
    video_unet, under = inflate(make_unet()), Conditioning(TEXT, (HintControl(make_adapter(), HINT),))
    trajectory = list(invert(video_unet, LATENTS, under, EPSILON, InversionConfig(4)))
    config = SamplingConfig(num_inference_steps=4, guidance_scale=2.0)
    start = inverted_start(trajectory, EPSILON, config)
    *_, last = sample(video_unet, start, under, replace(under, text=NEGATIVE), EPSILON, config)
    assert last.latents.isfinite().all()


@pytest.mark.parametrize("kind", ["controlnet", "adapter"])
def test_a_window_has_the_hints_of_its_frames(make_unet: MakeUNet, kind: str) -> None:
    network = make_controlnet(make_unet) if kind == "controlnet" else make_adapter()
    control, x, t = HintControl(network, HINT, frame_scales=[1.0, 0.5, 2.0]), LATENTS[:, :, [0, 2]], torch.tensor([500])
    with torch.no_grad():
        cut = control.of_frames([0, 2]).residuals(x, t, TEXT)
        alone = HintControl(network, HINT[[0, 2]], frame_scales=[1.0, 2.0]).residuals(x, t, TEXT)
    for name in alone:
        assert all(map(torch.equal, _list(cut[name]), _list(alone[name])))
    config = TuningConfig(steps=2, context_length=1)
    steps = list(tune(inflate(make_unet()), LATENTS, Conditioning(TEXT, (control,)), EPSILON, config))
    assert len(steps) == 2
