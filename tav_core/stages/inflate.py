"""The inflated UNet of a model, which editors share."""

from __future__ import annotations

from typing import Any

from ..models.base import BaseModel
from ..unet.inflate import inflate
from ..unet.video_unet import VideoUNet


def inflated_unet(model: BaseModel | VideoUNet, inflation: dict[str, Any]) -> VideoUNet:
    """The inflated UNet of a model, which stays with it, so that another editor finds it.

    Raises:
        ValueError: it was inflated with other options.
    """
    if not isinstance(model, BaseModel):
        video_unet = model
    elif "_video_unet" in vars(model.unet):
        (video_unet,) = vars(model.unet)["_video_unet"]
    else:
        video_unet = inflate(model.unet, **inflation)
        vars(model.unet)["_video_unet"] = (video_unet,)  # in a tuple, which is no module of the UNet
    if other := {name: value for name, value in inflation.items() if video_unet.inflation.get(name) != value}:
        name, value = next(iter(other.items()))
        raise ValueError(
            f"This model is inflated with {name}={video_unet.inflation.get(name)!r}, not {value!r}: load it anew."
        )
    return video_unet
