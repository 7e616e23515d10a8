"""A reference for the native MODEL, in ComfyUI's own process: the host's UNet with modules of a few plain lines in it.

Unlike VideoUNet it runs the host's code around them, and with it whatever other nodes patched into that.
"""

import copy
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn


def naive(model: ModelPatcher, handle: Any) -> ModelPatcher:
    """A copy of MODEL, its patches of weights included, that denoises clips as the tuned model does."""
    comfy.model_management.unload_all_models()  # which takes patches out of the weights
    shared = (model.model.model_config, model.model.current_patcher)
    copied = copy.deepcopy(model.model, {id(each): each for each in shared})
    made = ModelPatcher(copied, torch.device("cpu"), torch.device("cpu"))
    made.patches = {key: list(patches) for key, patches in model.patches.items()}
    handle.apply_weights()
    clips = [1]
    unet, video_unet = made.model.diffusion_model, handle.video_unet
    key_map = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    weights = dict(unet.named_parameters())
    with torch.inference_mode(False), torch.no_grad():
        for name, weight in video_unet.adapter.parameters().items():
            if "attn_temp" not in name:
                weights[key_map[name]].add_(weight - video_unet.adapter.base[name])
    for name, block in video_unet.blocks.items():
        theirs = unet.get_submodule(key_map[f"{name}.attn1.to_q.weight"].removesuffix(".attn1.to_q.weight"))
        theirs.attn1 = SparseCausal(theirs.attn1, clips)
        theirs.register_forward_hook(over_time(copy.deepcopy(block), clips))
    for module in list(unet.modules()):
        if isinstance(module, ResBlock):
            module.in_layers[0] = ClipNorm(module.in_layers[0], clips)
            module.out_layers[0] = ClipNorm(module.out_layers[0], clips)
    unet.out[0] = ClipNorm(unet.out[0], clips)
    made.set_model_unet_function_wrapper(counting(clips))
    return made


def counting(clips: list[int]) -> Callable:
    def run(apply_model: Callable, given: dict[str, Any]) -> Tensor:
        clips[0] = len(given["cond_or_uncond"])
        return apply_model(given["input"], given["timestep"], **given["c"])

    return run


class SparseCausal(nn.Module):
    """A self-attention to the first and the former frame, one frame at a time."""

    def __init__(self, attn: Any, clips: list[int]):
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = attn.to_q, attn.to_k, attn.to_v, attn.to_out
        self.heads, self.clips = attn.heads, clips

    def forward(self, x: Tensor, context: Any = None, value: Any = None, transformer_options: Any = None) -> Tensor:
        context = x if context is None else context
        q, k = self.to_q(x), self.to_k(context)
        v = self.to_v(context if value is None else value)
        frames, tiles = len(k) // self.clips[0], len(q) // len(k)
        rows = []
        for row in range(len(q)):
            picture, tile = divmod(row, tiles)
            clip, frame = divmod(picture, frames)
            seen = [clip * frames, clip * frames + max(0, frame - 1)]
            keys, values = (torch.cat([x[i].chunk(tiles)[tile] for i in seen]) for x in (k, v))
            rows.append(self.attend(q[row], keys, values))
        return self.to_out(torch.stack(rows))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(0, 1) for x in (q, k, v))
        scores = (q @ k.transpose(1, 2)) * q.shape[-1] ** -0.5
        return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


def over_time(block: Any, clips: list[int]) -> Callable:
    """A hook that adds the temporal attention of an inflated block."""
    attn = block.attn_temp

    def hook(module: BasicTransformerBlock, args: Any, output: Tensor) -> Tensor:
        x = block.norm_temp(output).unflatten(0, (clips[0], -1)).transpose(1, 2)  # clips, positions, frames, width
        q, k, v = (
            layer(x).unflatten(-1, (attn.heads, -1)).transpose(2, 3) for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        seen = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return output + attn.to_out(seen.transpose(2, 3).flatten(-2)).transpose(1, 2).flatten(0, 1)

    for part in (block.norm_temp, attn.to_q, attn.to_k, attn.to_v, attn.to_out):
        part.requires_grad_(False)
    attn.to_out = attn.to_out[0]
    return hook


class ClipNorm(nn.Module):
    """A GroupNorm with mean and variance over all frames of a clip."""

    def __init__(self, norm: nn.GroupNorm, clips: list[int]):
        super().__init__()
        self.norm, self.clips = norm, clips

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(0, (self.clips[0], -1)).unflatten(2, (self.norm.num_groups, -1))  # b f g c h w
        variance, mean = torch.var_mean(groups, dim=(1, 3, 4, 5), keepdim=True, correction=0)
        normed = ((groups - mean) / (variance + self.norm.eps).sqrt()).flatten(2, 3).flatten(0, 1)
        return normed * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]
