"""The inversion stage: the clip inverted, from the store where that was done before, and its reconstruction checked."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from torch import Tensor

from ..conditioning import Conditioning
from ..editing.config import InversionConfig
from ..editing.inversion import InversionStep, invert
from ..editing.reconstruction import reconstruct, reconstruction_snr
from ..editing.sampling import SamplingStep
from ..store import Run, Store, StoredInversion
from ..unet.video_unet import VideoUNet

Step = InversionStep | SamplingStep


class InversionRun(Run[Step]):
    """The steps of an inversion, and of the sampling that checks it, one for each item taken.

    Closed early, it saves nothing.

    Attributes:
        trajectory: the InversionSteps so far.
        reconstruction_snr: in dB, see `editing/reconstruction.py`; None until it is known, or where it is not checked.
    """

    def __init__(self, steps: Callable[[InversionRun], Generator[Step, None, None]]):
        super().__init__(steps(self))
        self.trajectory: list[InversionStep] = []
        self.reconstruction_snr: float | None = None


def invert_clip(
    video_unet: VideoUNet,
    latents: Tensor,
    text: Tensor | Conditioning,
    scheduler: Any,
    config: InversionConfig = InversionConfig(),
    *,
    store: Store | None = None,
    check: bool = True,
) -> InversionRun:
    """Invert, see `tav_core.invert`, and check how well the inverted clip samples back.

    Arguments:
        video_unet, latents, text, scheduler, config: as `invert` takes them.
        store: of inversions and of their checks; None to save nothing.
        check: whether to sample the inverted clip again, which takes as long as the inversion, once for each.
    """

    def steps(run: InversionRun) -> Generator[Step, None, None]:
        inversion = (invert if store is None else store.invert)(video_unet, latents, text, scheduler, config)
        for step in inversion:
            run.trajectory.append(step)
            yield step
        if not check:
            return
        stored = inversion if isinstance(inversion, StoredInversion) else None
        run.reconstruction_snr = stored.reconstruction_snr if stored else None
        if run.reconstruction_snr is None:
            for last in reconstruct(video_unet, run.trajectory, text, scheduler):
                yield last
            run.reconstruction_snr = reconstruction_snr(latents, last.latents)
            if stored:
                stored.save_reconstruction_snr(run.reconstruction_snr)

    return InversionRun(steps)
