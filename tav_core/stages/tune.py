"""The tuning stage: updates, from the store where they were made before, with previews of the edit between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..checks import MAX_STEPS, check_integer
from ..conditioning import Conditioning
from ..diffusion.schedule import NoiseSchedule, plain_noise
from ..editing.config import SamplingConfig
from ..editing.sampling import sample
from ..store import Run, Store
from ..tuning.clips import batch_of_clips
from ..tuning.config import TuningConfig, TuningStep
from ..tuning.tune import tune
from ..unet.video_unet import VideoUNet

PREVIEW = SamplingConfig(num_inference_steps=10, guidance_scale=1.0)


@dataclass(frozen=True, eq=False)
class PreviewConfig:
    """Previews of an edit while it is tuned.

    Attributes:
        every: updates from one to the next.
        prompt: the embedding of the edit's prompt, (1, n, d).
    """

    every: int
    prompt: Tensor | Conditioning

    def __post_init__(self) -> None:
        check_integer("every", self.every, 1, MAX_STEPS)


@dataclass(frozen=True, eq=False)
class Preview:
    """A preview. Attributes: latents of the middle frame of a quick edit, (1, c, 1, h, w)."""

    latents: Tensor


class TuningRun(Run[TuningStep | Preview]):
    """The updates that are left to make, one for each item taken, and the previews between them.

    Attributes:
        losses: of all updates made so far, those of earlier runs included.
    """

    def __init__(self, losses: list[float], left: Iterator[TuningStep | Preview]):
        super().__init__(left)
        self.losses = losses


def tune_clip(
    video_unet: VideoUNet,
    latents: Tensor,
    caption: Tensor | Conditioning,
    scheduler: Any,
    config: TuningConfig = TuningConfig(),
    *,
    more: Sequence[tuple[Tensor, Tensor | Conditioning]] = (),
    store: Store | None = None,
    preview: PreviewConfig | None = None,
    **own: Any,
) -> TuningRun:
    """Tune, see `tav_core.tune`. Only updates that the store lacks are made.

    Arguments:
        video_unet, latents, caption, scheduler, config: as `tune` takes them.
        own: parameters, objective, noise and timesteps, as `tune` takes them.
        more: latents and caption of more clips of the same motion; a forward pass sees one clip after the other.
        store: of tunings; None to save nothing.
        preview: of the edit; None for none. The model may be moved away while a preview is shown, and is to be back
            before the next item is taken.
    """
    clips, captions = batch_of_clips(latents, caption, more)
    config = replace(config, clips_in_turn=True) if more else config
    updates: Any = (tune if store is None else store.tune)(video_unet, clips, captions, scheduler, config, **own)
    losses = [step.loss for step in getattr(updates, "steps", [])]

    def left() -> Iterator[TuningStep | Preview]:
        with closing(updates):
            for step in updates:
                losses.append(step.loss)
                yield step
                if preview is not None and step.step % preview.every == 0:
                    yield _preview(video_unet, latents, preview.prompt, NoiseSchedule.from_scheduler(scheduler))

    return TuningRun(losses, left())


def _preview(video_unet: VideoUNet, latents: Tensor, prompt: Tensor | Conditioning, schedule: NoiseSchedule) -> Preview:
    """A quick sample of the edit from the noised clip."""
    first = schedule.timesteps(PREVIEW.num_inference_steps)[0]
    noised = schedule.add_noise(latents, plain_noise(tuple(latents.shape), 0).to(latents.device), first)
    *_, last = sample(video_unet, noised, prompt, None, schedule, PREVIEW)
    middle = latents.shape[2] // 2
    return Preview(last.latents[:, :, middle : middle + 1])
