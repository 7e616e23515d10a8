"""A tuning in files for other programs."""

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from safetensors import safe_open
from safetensors.torch import load_file

from tav_core import VideoUNet, export_tuned, inflate, trainable_parameters
from tav_core.store.export import low_rank
from tests.conftest import EPSILON, MakeUNet, draw


@pytest.fixture
def tuned_unet(make_unet: MakeUNet) -> VideoUNet:
    """A model whose trained weights are off their base."""
    video_unet = inflate(make_unet())
    with torch.no_grad():
        for seed, parameter in enumerate(trainable_parameters(video_unet).values()):
            parameter.add_(0.1 * draw(*parameter.shape, seed=seed))
    return video_unet


def added(video_unet: VideoUNet, layer: str) -> torch.Tensor:
    name = f"{layer}.weight"
    return video_unet.unet.get_parameter(name).detach() - video_unet.adapter.base[name]


def product(tensors: dict[str, torch.Tensor], layer: str) -> torch.Tensor:
    """What a LoRA adds to a layer, as kohya defines it."""
    up, down = tensors[f"{layer}.lora_up.weight"], tensors[f"{layer}.lora_down.weight"]
    return tensors[f"{layer}.alpha"] / len(down) * up @ down


QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize("limit", [0.5, 0.1, 1e-4])
def test_lora_has_the_least_rank_within_its_error(tuned_unet: VideoUNet, tmp_path: Path, limit: float) -> None:
    written = export_tuned(tuned_unet, tmp_path / "a.safetensors", error=limit)
    tensors, whole = load_file(written.path), added(tuned_unet, QUERY)
    down = tensors[f"{KOHYA}.lora_down.weight"]
    assert float((product(tensors, KOHYA) - whole).norm() / whole.norm()) <= limit * (1 + 1e-4)
    assert written.ranks[f"{QUERY}.weight"] == len(down)
    sizes = torch.linalg.svdvals(whole)
    lesser = float(sizes[len(down) - 1 :].norm() / sizes.norm())
    assert lesser > limit, "one rank less would lose more"
    assert written.error <= limit
    with safe_open(written.path, "pt") as file:
        assert float(file.metadata()["error"]) == pytest.approx(written.error, rel=0.01)


def test_error_is_that_of_all_matrices_together(tuned_unet: VideoUNet, tmp_path: Path) -> None:
    written = export_tuned(tuned_unet, tmp_path / "a.safetensors", error=0.4)
    tensors, lost, whole = load_file(written.path), 0.0, 0.0
    for name in written.ranks:
        layer = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        wanted = added(tuned_unet, name.removesuffix(".weight"))
        got = product(tensors, layer)
        lost, whole = lost + float((got - wanted).square().sum()), whole + float(wanted.square().sum())
    assert written.error == pytest.approx((lost / whole) ** 0.5, rel=1e-3)


def test_differences_are_exact(tuned_unet: VideoUNet, tmp_path: Path) -> None:
    tensors = load_file(export_tuned(tuned_unet, tmp_path / "a.safetensors", "diff").path)
    queries = [name for name in trainable_parameters(tuned_unet) if "attn_temp" not in name]
    assert len(tensors) == len(queries)
    assert torch.equal(tensors[f"{KOHYA}.diff"], added(tuned_unet, QUERY))


def test_temporal_part_has_the_published_names(tuned_unet: VideoUNet, tmp_path: Path) -> None:
    notes = {"prompt": "a man"}
    path = export_tuned(tuned_unet, tmp_path / "a.safetensors", "temporal", metadata=notes).path
    tensors, trained = load_file(path), trainable_parameters(tuned_unet)
    assert tensors.keys() == {name for name in trained if ".attn_temp." in name}
    assert all(torch.equal(tensor, trained[name]) for name, tensor in tensors.items())
    with safe_open(path, "pt") as file:
        assert file.metadata()["prompt"] == "a man"
        assert file.metadata()["format"] == "tune-a-video-temporal"


@pytest.mark.parametrize("kind", ["lora", "diff"])
def test_strength_is_one_whichever_is_applied(tuned_unet: VideoUNet, tmp_path: Path, kind: str) -> None:
    first = load_file(export_tuned(tuned_unet, tmp_path / "a.safetensors", kind).path)
    tuned_unet.adapter.scale = 0.3
    again = load_file(export_tuned(tuned_unet, tmp_path / "b.safetensors", kind).path)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


def test_diffusers_loads_the_lora(tuned_unet: VideoUNet, make_unet: MakeUNet, tmp_path: Path) -> None:
    """And computes what the image model computes with the tuned queries."""
    path = export_tuned(tuned_unet, tmp_path / "a.safetensors", error=1e-4).path
    parts = dict(vae=None, text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None)
    image_unet = make_unet()
    pipeline = StableDiffusionPipeline(
        unet=image_unet, scheduler=DDIMScheduler(**EPSILON), requires_safety_checker=False, **parts
    )
    expected, plain = predicted(with_queries(make_unet(), tuned_unet)), predicted(image_unet)
    state, alphas = pipeline.lora_state_dict(load_file(path), unet_config=image_unet.config)
    pipeline.load_lora_into_unet(state, alphas, image_unet)
    got = predicted(image_unet)
    assert (got - expected).abs().max() < 1e-3 * expected.abs().max()
    assert (plain - expected).abs().max() > 0.05 * expected.abs().max()


def with_queries(image_unet: UNet2DConditionModel, video_unet: VideoUNet) -> UNet2DConditionModel:
    tuned = {name: weight for name, weight in video_unet.adapter.tuned.items() if "attn_temp" not in name}
    image_unet.load_state_dict(tuned, strict=False)
    return image_unet


def predicted(image_unet: UNet2DConditionModel) -> torch.Tensor:
    with torch.no_grad():
        return image_unet(draw(1, 4, 8, 8), 437, draw(1, 7, 12)).sample


def test_untuned_model_and_other_errors_are_refused(make_unet: MakeUNet, tmp_path: Path) -> None:
    untuned = inflate(make_unet())
    with pytest.raises(ValueError, match="not tuned"):
        export_tuned(untuned, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="kind"):
        export_tuned(untuned, tmp_path / "a.safetensors", "locon")
    with pytest.raises(ValueError, match="error"):
        export_tuned(untuned, tmp_path / "a.safetensors", error=0)


def test_rank_of_a_matrix_that_has_one() -> None:
    matrix = draw(12, 2) @ draw(2, 9, seed=1)
    up, down, lost = low_rank(matrix, 1e-3)
    assert up.shape == (12, 2) and down.shape == (2, 9)
    assert lost < 1e-6 * float(matrix.square().sum())
    assert low_rank(torch.zeros(4, 3), 0.1)[0].shape == (4, 1)


@pytest.mark.parametrize(
    ("part", "kind", "written"),
    [
        ("conv1", "diff", "lora_unet_"),
        ("conv1", "temporal", "No temporal attention was tuned"),
        ("attn_temp", "temporal", "attn_temp"),
        ("attn_temp", "lora", 'export "temporal"'),
        (".lora_", "lora", "which the image model does not have"),
        (".lora_", "diff", "which the image model does not have"),
    ],
)
def test_a_set_of_its_own_is_written_or_refused(
    make_unet: MakeUNet, tmp_path: Path, part: str, kind: str, written: str
) -> None:
    video_unet = inflate(make_unet())
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["attn1.to_q"]), video_unet.unet)
    video_unet.adapter.choose([name for name, _ in video_unet.unet.named_parameters() if part in name])
    with torch.no_grad():
        for parameter in trainable_parameters(video_unet).values():
            parameter.add_(0.1)
    path = tmp_path / "a.safetensors"
    if " " in written:
        with pytest.raises(ValueError, match=written):
            export_tuned(video_unet, path, kind)
        assert not path.exists()
    else:
        export_tuned(video_unet, path, kind)
        names = list(load_file(path))
        assert len(names) == len(trainable_parameters(video_unet)) and all(written in name for name in names)
