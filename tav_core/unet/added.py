"""What an SDXL UNet takes beside the prompt: pooled text and sizes (arXiv:2307.01952, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

TEXT_EMBEDS, TIME_IDS = "text_embeds", "time_ids"
NUM_TIME_IDS = 6  # height and width of the original, top and left of the crop, height and width of the target


def added_widths(unet_config: Mapping[str, Any]) -> dict[str, int]:
    """The width of each tensor that a UNet takes beside the prompt, by diffusers' names; empty for SD 1 and 2."""
    if unet_config.get("addition_embed_type") != "text_time":
        return {}
    ids = NUM_TIME_IDS * unet_config["addition_time_embed_dim"]
    return {TEXT_EMBEDS: unet_config["projection_class_embeddings_input_dim"] - ids, TIME_IDS: NUM_TIME_IDS}


def check_added(given: Mapping[str, Tensor] | None, batch: int, unet_config: Mapping[str, Any]) -> None:
    """Check what is given beside the prompt.

    Arguments:
        given: text_embeds (b, p) and time_ids (b, 6) for SDXL; None or empty for Stable Diffusion 1 and 2.
        batch: the number of clips b.
        unet_config: of the UNet.

    Raises:
        ValueError: they are not those that the model takes, or a shape does not fit.
    """
    given, widths = given or {}, added_widths(unet_config)
    if given.keys() != widths.keys():
        if not widths:
            raise ValueError(f"Only SDXL takes {', '.join(sorted(given))} beside the prompt: leave them out.")
        raise ValueError(
            f"SDXL takes {TEXT_EMBEDS} and {TIME_IDS} beside the prompt, got {sorted(given)}: give the Conditioning "
            "that encode_prompts returns, or added_cond_kwargs."
        )
    for name, width in widths.items():
        if tuple(given[name].shape) != (batch, width):
            raise ValueError(
                f"{name} are (clips, {width}), here {batch} clips, got {tuple(given[name].shape)}: encode the prompts "
                "with the text encoders that belong to this model."
            )
