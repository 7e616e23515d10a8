"""The reconstruction check: how well the inverted clip samples back, before time goes into edits."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..conditioning import Conditioning
from ..diffusion.schedule import NoiseSchedule
from ..unet.video_unet import VideoUNet
from .config import SamplingConfig
from .inversion import InversionStep
from .sampling import SamplingStep, sample

GOOD_SNR = 40.0  # dB of latents, from which pictures are within 0.5 dB of the bundled VAE: docs/LOG.md
POOR_SNR = 10.0  # dB of latents, below which the clip does not come back


def reconstruct(
    video_unet: VideoUNet, trajectory: Sequence[InversionStep], text: Tensor | Conditioning, scheduler: Any
) -> Iterator[SamplingStep]:
    """Sample the inverted clip again, without guidance.

    Arguments:
        video_unet: the inflated model, with the weights of the inversion.
        trajectory: what `invert` yielded.
        text: the embedding that it was inverted under, (b, n, d).
        scheduler: as `sample` takes it.

    Yields:
        A SamplingStep for each timestep; the last one holds the reconstruction.

    Raises:
        ValueError: the trajectory is empty, or part of one.
    """
    steps = len(trajectory)
    if not steps:
        raise ValueError("The trajectory is empty: take all steps of invert().")
    last = NoiseSchedule.from_scheduler(scheduler).timesteps(steps)[0]
    if trajectory[-1].timestep != last:
        raise ValueError(
            f"The trajectory of {steps} steps ends at timestep {trajectory[-1].timestep}, a whole one at {last}: take "
            "all steps of invert(), and the scheduler that it was given."
        )
    config = SamplingConfig(num_inference_steps=steps, guidance_scale=1.0)
    return sample(video_unet, trajectory[-1].latents, text, None, scheduler, config)


def reconstruction_snr(clip: Tensor, reconstruction: Tensor) -> float:
    """Reconstruction SNR: the clip's variance over the mean squared error, in dB.

    Arguments:
        clip, reconstruction: latents of one shape, (b, c, f, h, w), any floating type and device.

    Returns:
        Decibels; inf for the clip itself.

    Raises:
        ValueError: the shapes differ.
    """
    if clip.shape != reconstruction.shape:
        raise ValueError(
            f"Latents of {tuple(clip.shape)} and {tuple(reconstruction.shape)} cannot be compared: give one shape."
        )
    clip, reconstruction = clip.float().cpu(), reconstruction.float().cpu()
    return float(10 * torch.log10(clip.var() / (reconstruction - clip).square().mean()))
