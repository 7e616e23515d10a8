"""TAV_CLIPS: more clips of one motion with their captions, as the host gives them, and as the core tunes on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...tav_core import Conditioning
from .data import clip_latents, embeddings

if TYPE_CHECKING:
    from .handle import TavModel

SAME_RATE = "set force_rate and select_every_nth of each Load Clip so that all have the same fps"
UNKNOWN_RATE = (
    "The clips may have unlike frame rates, which would be unlike speeds of the motion: connect fps of each Load Clip "
    "to One-Shot Tune and Another Clip, to have them compared."
)
Pair = tuple[Tensor, Tensor | Conditioning]


@dataclass(frozen=True, eq=False)
class HostClip:
    """A clip for the tuning of a motion. Attributes: LATENT, CONDITIONING, and frames per second if known."""

    latents: Mapping[str, Any]
    caption: list
    fps: float | None


def with_more_clips(
    first: Pair, fps: float | None, more: Sequence[HostClip], model: TavModel
) -> tuple[Tensor, list[Pair], list[str]]:
    """What a motion is tuned on.

    Arguments:
        first: latents (1, c, f, h, w) and caption (1, n, d) of the clip that One-Shot Tune has.
        fps: its frames per second; None if not known.

    Returns:
        Latents of all clips, (b, c, f, h, w); latents and caption of each one but the first; and what to warn of.

    Raises:
        ValueError: a clip has another size, number of frames or rate than the first, or a ControlNet acts on one.
    """
    from ...tav_core.tuning.clips import batch_of_clips, raise_unless_one_rate

    pairs = []
    for number, clip in enumerate(more, 2):
        if fps and clip.fps:
            raise_unless_one_rate(number, clip.fps, fps, SAME_RATE)
        latents = clip_latents(clip.latents, model)
        pairs.append((latents, embeddings(clip.caption, f"caption of clip {number}", model, latents)))
    clips, _ = batch_of_clips(*first, pairs)
    rates_known = all((fps, *(clip.fps for clip in more)))
    return clips, pairs, [UNKNOWN_RATE] if more and not rates_known else []
