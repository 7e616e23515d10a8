"""Runs in ComfyUI's Python, never in that of pytest: cases of the conversion MODEL -> UNet, checked on its output.

    python tests/comfyui/host.py CASE ...       with COMFYUI_PATH set; prints a line of JSON for each case

The host's own classes make a full-size UNet with made-up weights; the inflated UNet at one frame has to compute the
same. Peak memory is two UNets in float32, about 7.5 GB.
"""

import gc
import importlib.util
import json
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

PACK = Path(__file__).parents[2]
sys.path.insert(0, os.environ["COMFYUI_PATH"])

import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy.cli_args import args  # noqa: E402

args.cpu = "COMFYUI_ON_GPU" not in os.environ  # set by benchmarks/gpu_check/native_worker.py
importlib.import_module("utils")  # as main.py does: some hosts later put a folder first that has another `utils`

import comfy.model_base  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.quant_ops  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import latent_preview  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402

PLAIN = dict(
    image_size=32, out_channels=4, use_spatial_transformer=True, legacy=False, adm_in_channels=None, in_channels=4,
    model_channels=320, num_res_blocks=[2, 2, 2, 2], transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
    channel_mult=[1, 2, 4, 4], transformer_depth_middle=1, transformer_depth_output=[1] * 9 + [0] * 3,
    use_temporal_attention=False, use_temporal_resblock=False,
)  # fmt: skip
SD15 = PLAIN | dict(use_linear_in_transformer=False, context_dim=768)
SD21 = PLAIN | dict(use_linear_in_transformer=True, context_dim=1024)
FLUX = dict(
    image_model="flux", in_channels=16, out_channels=16, patch_size=2, vec_in_dim=32, context_in_dim=32,
    hidden_size=64, mlp_ratio=4.0, num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[8, 12, 12], theta=10000,
    qkv_bias=True, guidance_embed=False, txt_ids_dims=[],
)  # fmt: skip
TIMESTEP = 421
LONG = {
    f"text of {7 * count} letters": " ".join(["a (red:1.3) dog", "runs", "on", "the", "beach,"] * count)[: 7 * count]
    for count in (9, 30, 75, 76, 200)
}


def module(name: str):
    """A module of the node pack, under a name of its own, as the host imports it."""
    if "pack" not in sys.modules:
        import_pack()
    return importlib.import_module(f"pack.{name}")


def import_pack() -> None:
    spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    sys.modules["pack"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)


def made_up(model: torch.nn.Module) -> None:
    """Weights that keep activations near 1: drawn once, and read again from another place for each tensor."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(2**20 + 4099, generator=generator)
    with torch.no_grad():
        for index, (name, parameter) in enumerate(sorted(model.named_parameters())):
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            shift = 31 * index % 4099
            source = pool[shift : shift + 2**20].repeat(parameter.numel() // 2**20 + 1)[: parameter.numel()]
            parameter.copy_(source.view_as(parameter) * fan_in**-0.5)
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.add_(1)


def host_model(family: type, config: dict, **changes: object) -> ModelPatcher:
    model_config = family(config | changes)
    model_config.set_inference_dtype(torch.float32, None)
    kind = comfy.model_base.ModelType
    predicts = kind.V_PREDICTION if family is comfy.supported_models.SD20 else kind.EPS
    with torch.inference_mode():  # as the host's loaders run
        model = comfy.model_base.BaseModel(model_config, model_type=predicts)
        made_up(model.diffusion_model)
    return ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


LORA_NAMES = [
    "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
    "mid_block_attentions_0_transformer_blocks_0_attn2_to_k",
    "up_blocks_2_attentions_1_transformer_blocks_0_ff_net_0_proj",
    "up_blocks_1_resnets_0_conv1",
]


def with_lora(model: ModelPatcher) -> ModelPatcher:
    """A LoRA of rank 4 on attention, feed-forward and a convolution, as its files name them."""
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    weights = dict(model.model.named_parameters())
    generator = torch.Generator().manual_seed(1)
    lora = {}
    for name in LORA_NAMES:
        weight = weights[keys[f"lora_unet_{name}"]]
        down = torch.randn(4, *weight.shape[1:], generator=generator) * weight[0].numel() ** -0.5
        up = torch.randn(weight.shape[0], 4, *[1] * (weight.ndim - 2), generator=generator)
        lora |= {f"lora_unet_{name}.lora_down.weight": down, f"lora_unet_{name}.lora_up.weight": up}
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 0.8, 0)
    assert len(patched.patches) == len(LORA_NAMES)
    return patched


def with_flow(model: ModelPatcher) -> ModelPatcher:
    """As a ModelSamplingSD3 node upstream would leave it."""

    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    model.add_object_patch("model_sampling", Flow(model.model.model_config))
    return model


def sums(state: dict[str, torch.Tensor]) -> dict[str, float]:
    """A number of each tensor that changes with it. That of GGUF holds no numbers."""
    return {name: float(weight.float().sum()) for name, weight in state.items() if not weight.is_meta}


def compare(model: ModelPatcher) -> dict:
    """Host and inflated UNet on the same input; and that MODEL is as it was."""
    convert, core = module("nodes.adapters.convert"), module("tav_core")
    generator = torch.Generator().manual_seed(2)
    width = model.model.model_config.unet_config["context_dim"]
    latents = torch.randn(1, 4, 16, 16, generator=generator)
    text = torch.randn(1, 77, width, generator=generator)
    timestep = torch.tensor([TIMESTEP])
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model])
        expected = model.model.diffusion_model(latents, timestep, context=text)
        while_loaded = model.model_state_dict()
        before = sums(while_loaded)
        unet = convert.to_diffusers(model, torch.float32)
        after = sums(model.model_state_dict())
        schedule = convert.noise_schedule(model)
        del while_loaded
        comfy.model_management.unload_all_models()
        model.model.diffusion_model = None
        video_unet = core.inflate(unet)
        got = video_unet(latents[:, :, None], TIMESTEP, text)[:, :, 0]
    trains = all(not p.is_inference() for p in core.trainable_parameters(video_unet).values())
    return dict(
        relative_error=float((got - expected).abs().max() / expected.abs().max()),
        largest=float(expected.abs().max()),
        heads=list(unet.config.attention_head_dim),
        unchanged=before == after,
        trains=trains,
        prediction_type=schedule.prediction_type,
        first_alpha=schedule.alpha(0),
        last_alpha=schedule.alpha(999),
    )


def of_another_family(family: type, config: dict) -> ModelPatcher:
    """A MODEL as the host's loaders make it, without weights."""
    with torch.device("meta"), torch.inference_mode():
        model_config = family(config)
        model_config.set_inference_dtype(torch.float32, None)
        model = model_config.get_model({})
    return ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def scaled_fp8() -> ModelPatcher:
    """A small model whose attentions are in fp8 with a scale for each weight, as its files are loaded."""
    state = {}
    plain = host_model(comfy.supported_models.SD15, SD15, model_channels=64).model.diffusion_model.state_dict()
    for name, weight in plain.items():
        state[name] = weight
        if weight.ndim == 2 and ".attn" in name:
            scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
            state[name] = (weight / scale).to(torch.float8_e4m3fn)
            state[name.removesuffix("weight") + "scale_weight"] = scale
    state["scaled_fp8"] = torch.empty(2, dtype=torch.float8_e4m3fn)
    state, _ = comfy.utils.convert_old_quants(state)
    config = comfy.supported_models.SD15(SD15 | {"model_channels": 64})
    config.quant_config = comfy.utils.detect_layer_quantization(state, "")
    config.set_inference_dtype(torch.float32, None)
    with torch.inference_mode():
        model = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.EPS)
        missing, _ = model.diffusion_model.load_state_dict(state, strict=False)
    assert not missing, missing
    quantised = [p for p in model.diffusion_model.parameters() if isinstance(p, comfy.quant_ops.QuantizedTensor)]
    assert len(quantised) > 50, "the host keeps the weights of attentions quantised"
    return ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


class GGUFTensor(torch.Tensor):
    """Stands in for that of ComfyUI-GGUF: bytes, with a kind, the shape of the weight, and patches to apply."""

    @staticmethod
    def of(weight: torch.Tensor) -> "GGUFTensor":
        """Eight bits for each number, and a scale."""
        scale = weight.abs().max() / 127
        tensor = torch.Tensor._make_subclass(GGUFTensor, (weight / scale).round().to(torch.int8).flatten())
        tensor.tensor_type, tensor.tensor_shape, tensor.scale, tensor.patches = "Q8", weight.shape, scale, []
        return tensor

    def detach(self) -> "GGUFTensor":
        return self


class GGUFLinear(comfy.ops.manual_cast.Linear):
    """Stands in for a layer of ComfyUI-GGUF, also in what its state dict has beside the weight."""

    def get_weight(self, tensor: GGUFTensor, dtype: torch.dtype) -> torch.Tensor:
        weight = (tensor.as_subclass(torch.Tensor).to(dtype) * tensor.scale).view(tensor.tensor_shape)
        for patches, key in tensor.patches:
            weight = comfy.lora.calculate_weight(patches, weight, key)
        return weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(tokens, self.get_weight(self.weight, tokens.dtype), self.bias)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = torch.empty(self.weight.tensor_shape, device="meta")
        destination[prefix + "temp.weight"] = torch.empty(self.weight.tensor_shape, device="meta")
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias


class GGUFPatcher(ModelPatcher):
    """Stands in for that of ComfyUI-GGUF, which leaves patches to the layers."""

    def patch_weight_to_device(self, key: str, *args: object, **kwargs: object) -> object:
        weight = comfy.utils.get_attr(self.model, key)
        if not hasattr(weight, "tensor_type"):
            return super().patch_weight_to_device(key, *args, **kwargs)
        weight.patches = [(self.patches[key], key)] if key in self.patches else []
        return None


def gguf() -> ModelPatcher:
    """A small model with the linear layers of ComfyUI-GGUF, and a LoRA on it."""
    model = with_lora(host_model(comfy.supported_models.SD15, SD15, model_channels=64))
    model.__class__ = GGUFPatcher
    with torch.inference_mode(False):
        for layer in list(model.model.diffusion_model.modules()):
            if isinstance(layer, torch.nn.Linear):
                weight = GGUFTensor.of(layer.weight.detach().clone())
                layer.__class__ = GGUFLinear
                layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    return model


def refusal(model: ModelPatcher) -> dict:
    """What the node says of a MODEL."""
    inflate = module("nodes.inflate_unet").InflateUNet
    try:
        inflate.execute(model)
    except module("nodes.adapters.convert").UnsupportedModel as error:
        return dict(refused=str(error))
    return dict(refused=None)


def chosen_precisions() -> dict:
    """The type that auto takes on each kind of device, by the type in which the host would run the model."""
    handle = module("nodes.adapters.handle")
    before, chosen = comfy.model_management.get_torch_device, {}
    for device in ("cpu", "cuda", "mps"):
        comfy.model_management.get_torch_device = partial(torch.device, device)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            model = SimpleNamespace(model=SimpleNamespace(get_dtype_inference=lambda dtype=dtype: dtype))
            chosen[f"{device} {dtype}"] = str(handle.compute_dtype(model, "auto"))
    comfy.model_management.get_torch_device = before
    return chosen


def on_the_device(patcher: ModelPatcher, memory: float) -> list[str]:
    """Where the weights are after the host loaded them with so many bytes to spare. The device holds no numbers."""
    patcher.partially_load(torch.device("meta"), memory)
    return sorted({parameter.device.type for parameter in patcher.model.parameters()})


def loaded_whole() -> dict:
    """Where a host with little memory puts the weights of a UNet that trains, and of the bundled VAE."""
    core, demo, handle = module("tav_core"), module("nodes.adapters.demo"), module("nodes.adapters.handle")
    places = {}
    for memory in (0.1, -1.0):  # as --novram has it, and as a host that is short of memory
        holder, vae = handle.Holder(core.inflate(core.load_model().unet)), demo.load_demo()[2].patcher
        unet = handle.TrainablePatcher(holder, torch.device("meta"), torch.device("cpu"))
        places |= {f"unet {memory}": on_the_device(unet, memory), f"vae {memory}": on_the_device(vae, memory)}
    return places


def room_beside_a_dead_model() -> dict:
    """Bytes that can be had on a device of which a byte is free, where the host lists two models, one let go of."""
    memory, device = module("nodes.adapters.memory"), torch.device("meta")
    management = comfy.model_management
    before = management.get_torch_device, management.get_free_memory
    management.get_torch_device, management.get_free_memory = partial(torch.device, device), lambda _: 1
    modules = [torch.nn.Linear(2, 2) for _ in range(2)]
    patchers = [ModelPatcher(module, device, torch.device("cpu")) for module in modules]
    for patcher in patchers:
        management.current_loaded_models.append(management.LoadedModel(patcher))
        management.current_loaded_models[-1].model_load()
    del patchers[1], patcher
    dead = [model.is_dead() for model in management.current_loaded_models]
    reserved = management.extra_reserved_memory()
    room = memory.memory_budget(SimpleNamespace(weights=0)) + reserved
    management.current_loaded_models.clear()
    management.get_torch_device, management.get_free_memory = before
    return dict(dead=dead, room=room)


def bundled() -> dict:
    """The bundled model as the host runs it beside the library's own: largest errors over the largest values."""
    core, demo, world = module("tav_core"), module("nodes.adapters.demo"), module("tav_core.demo.world")
    (model, clip, vae), base = demo.load_demo(), core.load_model()
    scene, words = world.random_scene(3)
    frames = torch.from_numpy(world.draw_frames(scene, words, 2)[0])
    text = core.encode_prompts(base, [world.caption(words)])
    scaled = core.encode_frames(base, frames)
    noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model])
        context, timesteps = text.expand(2, -1, -1), torch.full((2,), TIMESTEP)
        pairs = {
            "unet": (model.model.diffusion_model(noise, timesteps, context=context), unet_of(base, noise, context))
        }
        pairs["text"] = clip.encode_from_tokens(clip.tokenize(world.caption(words))), text
        for name, prompt in LONG.items():  # brackets are escaped for the host, which would weight what they hold
            escaped = prompt.replace("(", "\\(").replace(")", "\\)")
            pairs[name] = clip.encode_from_tokens(clip.tokenize(escaped)), core.encode_prompts(base, [prompt])
        latents = vae.encode(frames)
        pairs["encode"] = model.model.process_latent_in(latents), scaled[0].transpose(0, 1)
        pairs["decode"] = vae.decode(latents), core.decode_latents(base, scaled)
        empty = comfy.sample.fix_empty_latent_channels(model, torch.zeros(1, 4, 16, 16))
        shown = previewed(model, pairs["encode"][0][:1])
        weights = module("nodes.adapters.convert").to_diffusers(model, torch.float32).state_dict()
    pixels = torch.nn.functional.avg_pool2d(frames[:1].permute(0, 3, 1, 2), 8)[0].permute(1, 2, 0)
    assert all(got.shape == expected.shape for got, expected in pairs.values()), "as many tokens"
    errors = {
        name: float((got - expected).abs().max() / expected.abs().max()) for name, (got, expected) in pairs.items()
    }
    unchanged = all(torch.equal(weight, weights[name]) for name, weight in base.unet.state_dict().items())
    preview = float((shown - pixels).abs().mean())
    return dict(
        errors=errors, empty=list(empty.shape), preview=preview, spread=float(pixels.std()), unchanged=unchanged
    )


def unet_of(base: SimpleNamespace, noise: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    return base.unet(noise, TIMESTEP, context).sample


def previewed(model: ModelPatcher, latents: torch.Tensor) -> torch.Tensor:
    """The host's quick preview of scaled latents (1, c, h, w): (h, w, 3) in [0, 1]."""
    form = model.model.latent_format
    previewer = latent_preview.Latent2RGBPreviewer(form.latent_rgb_factors, form.latent_rgb_factors_bias)
    return torch.from_numpy(np.array(previewer.decode_latent_to_preview(latents))) / 255


def run(case: str) -> dict:
    families = comfy.supported_models
    small = dict(model_channels=32)
    if case == "sd15":
        return compare(host_model(families.SD15, SD15))
    if case == "sd15-lora":
        return compare(with_lora(host_model(families.SD15, SD15)))
    if case == "scaled fp8":
        return compare(scaled_fp8())
    if case == "gguf":
        return compare(gguf())
    if case == "sd21":
        return compare(host_model(families.SD20, SD21))
    if case == "refiner":
        depths = dict(channel_mult=[1, 2, 4], num_res_blocks=[2, 2, 2], transformer_depth=[0, 0, 2, 2, 10, 10])
        depths |= dict(transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10)
        return refusal(
            host_model(families.SDXLRefiner, SD21, num_classes="sequential", adm_in_channels=64, **depths, **small)
        )
    if case == "inpaint":
        return refusal(host_model(families.SD15, SD15, in_channels=9, **small))
    if case == "flux":
        return refusal(of_another_family(families.Flux, FLUX))
    if case == "svd":
        video = dict(use_temporal_attention=True, use_temporal_resblock=True, video_kernel_size=[3, 1, 1])
        video |= dict(merge_strategy="learned_with_images", merge_factor=0.0, extra_ff_mix_layer=True)
        video |= dict(in_channels=8, num_classes="sequential", adm_in_channels=64)
        return refusal(of_another_family(families.SVD_img2vid, SD21 | video | small))
    if case == "flow":
        return refusal(with_flow(host_model(families.SD15, SD15, **small)))
    if case == "freeu":
        model = host_model(families.SD15, SD15, **small)
        model.set_model_output_block_patch(lambda h, hsp, options: (h, hsp))
        return refusal(model)
    if case == "bundled":
        return bundled()
    if case == "precision":
        return chosen_precisions()
    if case == "whole":
        return loaded_whole()
    if case == "dead":
        return room_beside_a_dead_model()
    raise SystemExit(f"no case {case}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[1:]:
        sys.stdout.write(json.dumps({"case": case, **run(case)}) + "\n")
        sys.stdout.flush()
        gc.collect()
