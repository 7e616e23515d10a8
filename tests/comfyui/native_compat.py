"""Runs in ComfyUI's Python: the native MODEL under other nodes, beside the plain reference of naive.py.

    python tests/comfyui/native_compat.py CASE ...     with COMFYUI_PATH set; prints a line of JSON for each case

For each row of docs/compatibility.md: the largest error over the largest value, and how far the node moves the result.
"""

import gc
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from native_host import (  # starts the host
    SIZES,
    apply,
    controlnet,
    error,
    hinted,
    noise,
    prompt,
    sampled,
    small_model,
    t2i_adapter,
    tuned_model,
)

# isort: split
import comfy.hooks
import comfy.lora
import comfy.model_base
import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from naive import naive
from torch import Tensor

Patch = Callable[[ModelPatcher], ModelPatcher]
SIDE = 16


def from_node(file: str, name: str, **inputs: Any) -> Patch:
    """What a node of the host does to a MODEL."""

    def patch(model: ModelPatcher) -> ModelPatcher:
        node = getattr(importlib.import_module(f"comfy_extras.{file}"), name)
        out = (
            node.execute(model, **inputs)
            if hasattr(node, "execute")
            else getattr(node(), node.FUNCTION)(model, **inputs)
        )
        return out[0] if isinstance(out, tuple) else out.result[0]

    return patch


def with_image_prompt(model: ModelPatcher) -> ModelPatcher:
    """As IPAdapter does it: beside the text each query attends to tokens of a picture."""
    made, generator = model.clone(), torch.Generator().manual_seed(8)

    def attend_both(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        heads = options["n_heads"]
        picture = torch.randn(2, 1, 4, k.shape[-1], generator=generator.manual_seed(9)).expand(-1, len(q), -1, -1)
        return attention(q, k, v, heads) + 0.5 * attention(q, *picture, heads)

    for side, numbers in (("input", (1, 3, 5)), ("middle", (0,)), ("output", (2, 3, 4, 5, 6, 7))):
        for number in numbers:
            made.set_model_attn2_replace(attend_both, side, number)
    return made


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def with_file(kind: str) -> Patch:
    """A LoRA file of a kind on one attention, one feed-forward and, where made here, one convolution."""

    def patch(model: ModelPatcher) -> ModelPatcher:
        made, _ = comfy.sd.load_lora_for_models(model, None, lora_file(model, kind), 0.7, 0)
        assert len(made.patches) > len(model.patches), kind
        return made

    return patch


ATTENTION = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
FEED_FORWARD = "lora_unet_up_blocks_2_attentions_1_transformer_blocks_0_ff_net_2"
CONVOLUTION = "lora_unet_up_blocks_1_resnets_0_conv1"


def lora_file(model: ModelPatcher, kind: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    shapes = {
        name: comfy.utils.get_attr(model.model, keys[name]).shape for name in (ATTENTION, FEED_FORWARD, CONVOLUTION)
    }

    def drawn(*shape: int, scale: float = 0.3) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        ones = [1] * (len(shape) - 2)
        rows, columns = shape[0], shape[1]
        if kind == "LoRA":
            found |= {f"{name}.lora_up.weight": drawn(rows, 4, *ones), f"{name}.lora_down.weight": drawn(4, *shape[1:])}
        elif kind == "DoRA":
            found |= {f"{name}.lora_up.weight": drawn(rows, 4, *ones), f"{name}.lora_down.weight": drawn(4, *shape[1:])}
            found[f"{name}.dora_scale"] = 1 + drawn(1, columns, *ones).abs()
        elif kind == "LoHa" and not ones:
            for part in ("hada_w1", "hada_w2"):
                found |= {f"{name}.{part}_a": drawn(rows, 4), f"{name}.{part}_b": drawn(4, columns)}
        elif kind == "LoKr" and not ones:
            found |= {f"{name}.lokr_w1": drawn(4, 4), f"{name}.lokr_w2": drawn(rows // 4, columns // 4)}
        elif kind == "full difference":
            found[f"{name}.diff"] = drawn(*shape, scale=0.05)
    return found


def twice(first: Patch, second: Patch) -> Patch:
    return lambda model: second(first(model))


NODES: dict[str, Patch] = {
    "FreeU": from_node("nodes_freelunch", "FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2),
    "FreeU V2": from_node("nodes_freelunch", "FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    "Perturbed-Attention Guidance": from_node("nodes_pag", "PerturbedAttentionGuidance", scale=3.0),
    "Self-Attention Guidance": from_node("nodes_sag", "SelfAttentionGuidance", scale=0.5, blur_sigma=2.0),
    "HyperTile": from_node("nodes_hypertile", "HyperTile", tile_size=64, swap_size=2, max_depth=0, scale_depth=False),
    "Token Merging": from_node("nodes_tomesd", "TomePatchModel", ratio=0.3),
    "Deep Shrink": from_node(
        "nodes_model_downscale",
        "PatchModelAddDownscale",
        **dict(block_number=3, downscale_factor=2.0, start_percent=0.0, end_percent=0.9, downscale_after_skip=True),
        **dict(downscale_method="bicubic", upscale_method="bicubic"),
    ),
    "RescaleCFG": from_node("nodes_model_advanced", "RescaleCFG", multiplier=0.7),
    "attn2 replacement, as IPAdapter makes it": with_image_prompt,
    "PAG and FreeU": twice(
        from_node("nodes_pag", "PerturbedAttentionGuidance", scale=3.0),
        from_node("nodes_freelunch", "FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    ),
    **{f"{kind} file": with_file(kind) for kind in ("LoRA", "DoRA", "LoHa", "LoKr", "full difference")},
}


def run(model: ModelPatcher, **given: Any) -> Tensor:
    torch.manual_seed(7)  # Token Merging and HyperTile draw from the global generator
    return sampled(model, noise(3, side=SIDE), **{"steps": 2, **given})


def row(native: ModelPatcher, expected: ModelPatcher, patch: Patch, **given: Any) -> dict[str, float]:
    got = run(patch(native), **given)
    return dict(error=error(got, run(patch(expected), **given)), moved=error(got, run(native)))


def nodes() -> dict[str, Any]:
    """Other nodes after Apply Motion."""
    model = small_model()
    handle = tuned_model(model)
    native, expected = apply(model, handle), naive(model, handle)
    found = {"none": dict(error=error(run(native), run(expected)), moved=1.0)}
    return found | {name: row(native, expected, patch) for name, patch in NODES.items()}


def before() -> dict[str, Any]:
    """Other nodes before Apply Motion, and a LoRA that a hook gives to one prompt."""
    model, found = small_model(), {}
    handle = tuned_model(model)
    native = apply(model, handle)
    for name in ("LoRA file", "FreeU", "Perturbed-Attention Guidance", "HyperTile"):
        patched = NODES[name](model)
        got = run(apply(patched, handle))
        weights = naive(NODES[name](model) if "file" in name else model, handle)
        expected = weights if "file" in name else NODES[name](weights)
        found[f"{name} before"] = dict(error=error(got, run(expected)), moved=error(got, run(native)))
    hooks = comfy.hooks.create_hook_lora(lora_file(model, "LoRA"), 0.7, 0.0)
    hooked = comfy.hooks.set_hooks_for_conditioning(prompt(10), hooks)
    got = run(native, positive=hooked, cfg=1.0)
    expected = naive(with_file("LoRA")(model), handle)
    found["LoRA hook"] = dict(error=error(got, run(expected, cfg=1.0)), moved=error(got, run(native, cfg=1.0)))
    return found


def controls() -> dict[str, Any]:
    """ControlNets and T2I-Adapters with a hint for each frame."""
    model = small_model("sd15 with two resnets")
    handle = tuned_model(model)
    native, expected = apply(model, handle), naive(model, handle)
    hints = torch.rand(3, 3, 8 * SIDE, 8 * SIDE, generator=torch.Generator().manual_seed(6))
    net, adapter = controlnet(), t2i_adapter()
    both = hinted(net, hints).set_previous_controlnet(hinted(adapter, hints, 0.5))
    ranged = net.copy().set_cond_hint(hints, 0.8, (0.0, 0.6))
    kinds = {"ControlNet": hinted(net, hints), "T2I-Adapter": hinted(adapter, hints), "both, chained": both}
    kinds["ControlNet for a part of the steps"] = ranged
    found = {}
    for name, control in kinds.items():
        given = dict(positive=prompt(10, control=control, control_apply_to_uncond=True), steps=3)
        got = run(native, **given)
        found[name] = dict(error=error(got, run(expected, **given)), moved=error(got, run(native, steps=3)))
    return found


class Tight(ModelPatcher):
    """A patcher on a host that allows a share of the weights on the device, as --lowvram and --novram do."""

    share = 0.0

    def load(self, device_to: Any = None, lowvram_model_memory: int = 0, **options: Any) -> Any:
        options["full_load"] = False
        return super().load(device_to, lowvram_model_memory=max(64, int(self.share * self.model_size())), **options)


def memory() -> dict[str, Any]:
    """Weights that the host leaves off the device, with differences applied on the fly; weights of 8 bits."""
    model = small_model()
    handle = tuned_model(model)
    found, whole = {}, run(apply(model, handle))
    before = run(model)
    for share in (0.0, 0.1, 0.5):
        comfy.model_management.unload_all_models()
        tight = Tight(model.model, model.load_device, model.offload_device)
        Tight.share = share
        native = apply(tight, handle)
        got = run(native)
        assert native.lowvram_patch_counter() > 0 or share
        found[f"{share:.0%} of the weights on the device"] = dict(error=error(got, whole), moved=error(got, before))
    comfy.model_management.unload_all_models()
    found["image model afterwards"] = dict(error=error(run(model), before), moved=1.0)
    comfy.model_management.unload_all_models()
    coarse = of_8_bits()
    fine = small_model()
    with torch.inference_mode():
        weights = dict(fine.model.named_parameters())
        for name, weight in coarse.model.named_parameters():
            weights[name].copy_(weight.float())
    handle = tuned_model(fine)
    got = run(apply(coarse, handle))
    found["weights in fp8"] = dict(error=error(got, run(naive(fine, handle))), moved=error(got, run(fine)))
    return found


def of_8_bits() -> ModelPatcher:
    """A small model whose weights rest in float8, computed with in float32."""
    family, config = SIZES["sd15"]
    model_config = family(dict(config))
    model_config.set_inference_dtype(torch.float8_e4m3fn, torch.float32)
    with torch.inference_mode():
        model = comfy.model_base.BaseModel(model_config, model_type=comfy.model_base.ModelType.EPS)
        plain = small_model().model.state_dict()
        model.load_state_dict({name: weight.to(model.state_dict()[name].dtype) for name, weight in plain.items()})
    assert model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn1.to_q.weight.element_size() == 1
    return ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


CASES: dict[str, Callable[[], dict]] = {"nodes": nodes, "before": before, "controls": controls, "memory": memory}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[1:]:
        sys.stdout.write(json.dumps({"case": case, **CASES[case]()}) + "\n")
        sys.stdout.flush()
        gc.collect()
