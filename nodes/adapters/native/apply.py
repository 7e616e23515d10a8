"""MODEL and TAV_MODEL to a MODEL that denoises whole clips, the frames in its batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import comfy.model_management as host
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..convert import PREFIX, raise_unless_supported
from .motion import KEY, ClipCall, SparseCausal, count_frames
from .temporal import TemporalLayers

if TYPE_CHECKING:
    from ....tav_core import VideoUNet
    from ..handle import TavModel

SIDES = {"input_blocks": "input", "middle_block": "middle", "output_blocks": "output"}
TEMPORAL = (".attn_temp.", ".norm_temp.")


def apply_motion(model: Any, tav_model: TavModel, strength: float) -> Any:
    """A clone of MODEL that denoises clips as the tuned model does. MODEL may be another checkpoint of its family.

    Arguments:
        model: the host's ModelPatcher of a Stable Diffusion 1, 2 or XL.
        tav_model: tuned, or untuned for the inflated image model.
        strength: of the tuning, times that of the handle.

    Raises:
        UnsupportedModel: MODEL is of another family.
        ValueError: it is of another size than the tuned model, or carries a motion already.
    """
    raise_unless_supported(model)
    if model.get_wrappers(WrappersMP.DIFFUSION_MODEL, KEY):
        raise ValueError("This MODEL carries the motion of another clip: connect the MODEL from before Apply Motion.")
    video_unet = tav_model.video_unet
    places = _places(model, video_unet)
    with torch.inference_mode(False), torch.no_grad():
        tav_model.apply_weights(strength=1.0)
        tuned, scale = video_unet.adapter.is_tuned(), tav_model.strength * strength
        differences = _differences(model, video_unet) if tuned else {}
        temporal = _temporal(model, video_unet, places, scale) if tuned else None
    patched = model.clone()
    _add_differences(patched, differences, scale)
    attend = SparseCausal([temporal] if temporal else [])
    for place in places.values():
        side, *numbers = place.split(".")
        patched.set_model_attn1_replace(attend, SIDES[side], 0 if side == "middle_block" else int(numbers[0]))
    norms = _norms(model) if video_unet.inflation["group_norm"] == "video" else []
    call = ClipCall(list(places.values()), norms, temporal.model if temporal else None)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, call)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, count_frames)
    return patched


def _places(model: Any, video_unet: VideoUNet) -> dict[str, str]:
    """Where each inflated block stands in the host's UNet, such as "input_blocks.1.1.transformer_blocks.0", by name.

    Raises:
        ValueError: the two models are not of one size.
    """
    key_map, unet, places = _key_map(model), model.model.diffusion_model, {}
    for name, block in video_unet.blocks.items():
        place = key_map.get(f"{name}.attn1.to_q.weight", "").removesuffix(".attn1.to_q.weight")
        theirs = unet.get_submodule(place) if place else None
        if theirs is None or _size(theirs) != _size(block):
            raise ValueError(
                f"This MODEL is not of the size of the tuned one ({_described(theirs)} at {name}, tuned was "
                f"{_described(block)}): connect a checkpoint of the family that was tuned."
            )
        places[name] = place
    if len(places) != sum(name.endswith(".attn1.to_q.weight") for name in key_map):
        raise ValueError("This MODEL has more blocks than the tuned one: connect a checkpoint of its family.")
    return places


def _size(block: Any) -> tuple[int, ...]:
    """Heads, and the widths of queries and of the text."""
    return (block.attn1.heads, *block.attn1.to_q.weight.shape, block.attn2.to_k.weight.shape[1])


def _described(block: Any) -> str:
    if block is None:
        return "no attention"
    heads, width, _, text = _size(block)
    return f"{heads} heads of {width // heads} and text of width {text}"


def _key_map(model: Any) -> dict[str, str]:
    """The host's names of weights by those of diffusers."""
    return comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)


def _differences(model: Any, video_unet: VideoUNet) -> dict[str, Tensor]:
    """What tuning added to weights of the image model, by the host's names, float32 on the CPU."""
    key_map, found = _key_map(model), {}
    for name, difference in video_unet.adapter.differences().items():
        if any(part in name for part in TEMPORAL):
            continue
        if name not in key_map:
            raise ValueError(f"The tuning trained {name}, which ComfyUI's UNet does not have: tune the published set.")
        found[PREFIX + key_map[name]] = difference
    return found


class FineDifference:
    """Adds a difference to a weight each time that the host computes with it, in the type of the computation."""

    def __init__(self, difference: Tensor):
        self.difference = difference

    def move_to(self, device: torch.device) -> int:
        """Move to the device of the layer, as the host asks for. Returns the bytes there."""
        self.difference = self.difference.to(device)
        return self.difference.nbytes

    def __call__(self, weight: Tensor) -> Tensor:
        return weight + self.difference.to(weight)


def _add_differences(model: Any, differences: Mapping[str, Tensor], scale: float) -> None:
    """Add differences to the weights of MODEL: as the host's patches, which it merges into the weights.

    Merged into weights of 8 bits most differences would be rounded away, so there they are added on the fly.
    """
    weights = {key: comfy.utils.get_attr(model.model, key) for key in differences}
    coarse = {key for key, weight in weights.items() if not weight.is_floating_point() or weight.element_size() == 1}
    patches = {key: ("diff", (each,)) for key, each in differences.items() if key not in coarse}
    model.add_patches(patches, scale)
    for key in coarse:
        model.add_weight_wrapper(key, FineDifference(scale * differences[key]))


def _temporal(model: Any, video_unet: VideoUNet, places: dict[str, str], scale: float) -> ModelPatcher:
    """The temporal attention in the host's memory management, in the type in which MODEL computes."""
    blocks = {places[name]: block for name, block in video_unet.blocks.items()}
    layers = TemporalLayers(blocks, scale, model.model.get_dtype_inference())
    return ModelPatcher(layers, load_device=model.load_device, offload_device=host.unet_offload_device())


def _norms(model: Any) -> list[str]:
    """Where the norms stand that take their statistics over a clip: two in each resnet, and the last one."""
    modules = model.model.diffusion_model.named_modules()
    resnets = [name for name, module in modules if isinstance(module, ResBlock)]
    return [f"{name}.{norm}" for name in resnets for norm in ("in_layers.0", "out_layers.0")] + ["out.0"]
