"""One call of the host's UNet on clips: sparse-causal and temporal attention, and norms over the clip.

The host folds the frames of all clips of a call into its batch, (b f, c, h, w): a clip for each prompt. Its attention
replacement gives sparse-causal attention. For the temporal attention and for norms over the clip it has no hook of its
own: torch's hooks stand on its modules for that call alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from einops import rearrange
from torch import Tensor, nn

from .temporal import TemporalLayers

KEY = "tune-a-video"  # of our wrappers in a MODEL
FRAMES, RUN = "tav_frames", "tav_run"  # in transformer_options: frames of a batch of the sampler; the present call


@dataclass(frozen=True)
class Run:
    """One call of the UNet. Attributes: the frames of each clip, and the clips in the batch."""

    num_frames: int
    clips: int


class SparseCausal:
    """The replacement of a self-attention: each frame attends to the first and to the former one.

    Arguments:
        patchers: of weights that the host is to load together with MODEL.
    """

    def __init__(self, patchers: Sequence[ModelPatcher]):
        self.patchers = list(patchers)

    def models(self) -> list[ModelPatcher]:
        """What the host loads together with MODEL."""
        return self.patchers

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: Mapping[str, Any]) -> Tensor:
        """The weighted values (b f t, s, c).

        Arguments:
            q: projected queries (b f t, s, c), with t tiles of a frame where HyperTile cuts them.
            k, v: projected keys and values (b f, n, c).
            extra_options: the host's transformer_options, with the heads of this attention.
        """
        from ....tav_core.unet.attention import sparse_causal_attention

        run = extra_options.get(RUN)
        if run is None:
            raise RuntimeError(
                "A node called this MODEL without its wrappers, so that it would sample separate images: remove that "
                "node, or connect it before Apply Motion."
            )
        tiles = len(q) // len(k)
        clips = dict(f=run.num_frames, t=tiles)
        query = rearrange(q, "(b f t) s c -> (b t) f s c", **clips)
        # The host gives each tile of queries a band of the frame's keys.
        key, value = (rearrange(x, "(b f) (t n) c -> (b t) f n c", **clips) for x in (k, v))

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            precision = extra_options.get("attn_precision")
            return optimized_attention(
                query, key, value, extra_options["n_heads"], attn_precision=precision, transformer_options=extra_options
            )

        out = sparse_causal_attention(query, key, value, attend=attend)
        return rearrange(out, "(b t) f s c -> (b f t) s c", t=tiles)


def count_frames(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """A wrapper of CALC_COND_BATCH: notes the number of frames that the sampler denoises at once.

    A node that puts tiles into the batch further inside is recognised by it.
    """
    options = _argument("model_options", 4, args, kwargs).setdefault("transformer_options", {})
    options[FRAMES] = len(_argument("x_in", 2, args, kwargs))
    try:
        return executor(*args, **kwargs)
    finally:
        options.pop(FRAMES, None)


def _argument(name: str, place: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """An argument of the host's function that a wrapper stands around. New ones come behind those there are."""
    return kwargs[name] if name in kwargs else args[place]


class ClipCall:
    """A wrapper of DIFFUSION_MODEL: runs the UNet on clips.

    Arguments:
        blocks: places of the transformer blocks in the host's UNet.
        norms: places of the GroupNorms that take their statistics over a clip.
        temporal: the temporal attention; None for an untuned model, whose temporal attention adds nothing.
    """

    def __init__(self, blocks: Sequence[str], norms: Sequence[str], temporal: TemporalLayers | None):
        self.blocks, self.norms, self.temporal = list(blocks), list(norms), temporal

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = _argument("transformer_options", 5, args, kwargs)
        run = options[RUN] = _run(len(_argument("x", 0, args, kwargs)), options)
        try:
            with self._hooked(executor.class_obj, run, options):
                return executor(*args, **kwargs)
        finally:
            options.pop(RUN, None)

    @contextmanager
    def _hooked(self, unet: nn.Module, run: Run, options: Mapping[str, Any]) -> Iterator[None]:
        """Hooks on the modules of the UNet, inside a `with`."""
        with ExitStack() as hooks:
            for place in self.norms:
                norm = unet.get_submodule(place)
                hooks.callback(norm.register_forward_pre_hook(partial(_clip_in, run)).remove)
                hooks.callback(norm.register_forward_hook(_clip_out).remove)
            for place in self.blocks if self.temporal else ():
                block, layer = unet.get_submodule(place), self.temporal.at(place)
                added = partial(_add_temporal, layer, run, options)
                hooks.callback(block.register_forward_hook(added).remove)
            yield


def _run(batch: int, options: Mapping[str, Any]) -> Run:
    clips = len(options.get("cond_or_uncond", ()))
    num_frames = options.get(FRAMES) or batch // max(clips, 1)
    if clips * num_frames != batch or batch == 0:
        raise ValueError(
            f"This MODEL denoises clips of {num_frames} frames for {clips} prompts, and was given {batch} pictures: "
            "remove the node that puts tiles or other pictures into the batch."
        )
    return Run(num_frames, clips)


def _clip_in(run: Run, norm: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (rearrange(args[0], "(b f) c h w -> b c f h w", f=run.num_frames),)


def _clip_out(norm: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    return rearrange(output, "b c f h w -> (b f) c h w")


def _add_temporal(
    layer: nn.Module, run: Run, options: Mapping[str, Any], block: Any, args: tuple, output: Tensor
) -> Tensor:
    return output + layer(output, run.num_frames, block.attn_precision, options)
