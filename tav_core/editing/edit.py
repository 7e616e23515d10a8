"""The edit, from whichever start: the inverted clip, fresh noise, or the clip's own branch."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ..checks import check_choice
from ..conditioning import Conditioning
from ..diffusion.schedule import NoiseSchedule, plain_noise
from ..unet.video_unet import VideoUNet
from .config import InversionConfig, SamplingConfig
from .inversion import InversionStep, invert
from .sampling import SamplingStep, sample
from .source_branch import SourceBranch, sample_with_source_branch

# "inversion" samples the inverted noise, as published; "noise" samples fresh noise; "source_branch" preserves the clip.
START_FROM = ("inversion", "noise", "source_branch")
MASK_ALONE = 'A mask locks parts of a source-preserving edit: start from "source_branch", or remove it.'


def edit(
    video_unet: VideoUNet,
    start: Tensor | SourceBranch,
    positive: Tensor | Conditioning,
    negative: Tensor | Conditioning | None,
    scheduler: Any,
    config: SamplingConfig = SamplingConfig(),
    *,
    mask: Tensor | None = None,
    sampler: Any = None,
) -> Iterator[SamplingStep]:
    """Sample an edit from latents, see `sample`, or along a source branch, see `sample_with_source_branch`.

    Arguments:
        start: latents at the level of the first timestep, (b, c, f, h, w), or the clip that the edit preserves.
        video_unet, positive, negative, scheduler, config: as both take them.
        mask: of a source-preserving edit.
        sampler: of an edit without a source branch, as `sample` takes it.

    Yields:
        A SamplingStep for each timestep, falling; the last one holds the edit.

    Raises:
        ValueError: a mask without a source branch, a sampler with one, or as the two say.
    """
    if isinstance(start, SourceBranch):
        if sampler is not None:
            raise ValueError(
                "A source-preserving edit takes DDIM steps: leave the sampler out, or start from inversion or noise."
            )
        return sample_with_source_branch(video_unet, start, positive, negative, scheduler, config, mask=mask)
    if mask is not None:
        raise ValueError(MASK_ALONE)
    refuse_source_settings(config)
    return sample(video_unet, start, positive, negative, scheduler, config, sampler=sampler)


def check_start(start_from: str, noise: Tensor | None, mask: Tensor | None, latents: Tensor) -> None:
    """Raise a ValueError unless a start goes with the noise and the mask given, and the noise with the latents."""
    check_choice("start_from", start_from, START_FROM)
    if noise is not None and start_from == "source_branch":
        raise ValueError('noise goes with start_from "inversion" and "noise"; a source branch starts from the clip.')
    if noise is not None and noise.shape != latents.shape:
        raise ValueError(f"Noise is like the latents, {tuple(latents.shape)}, got {tuple(noise.shape)}.")
    if mask is not None and start_from != "source_branch":
        raise ValueError(MASK_ALONE)


def refuse_source_settings(config: SamplingConfig) -> None:
    """Raise a ValueError if a setting is given that acts in a source-preserving edit alone."""
    for name in config.source_settings:
        raise ValueError(f'{name} acts in a source-preserving edit: start from "source_branch", or leave it out.')


def inverted_start(trajectory: Sequence[InversionStep], scheduler: Any, config: SamplingConfig) -> Tensor:
    """The inverted clip at the level from which sampling starts, (b, c, f, h, w).

    Arguments:
        trajectory: what `invert` yielded.
        scheduler: what `NoiseSchedule.from_scheduler` takes.
        config: read for steps and denoise.

    Raises:
        ValueError: the inversion took another number of steps.
    """
    first = NoiseSchedule.from_scheduler(scheduler).timesteps(config.num_inference_steps, config.denoise)[0]
    for step in trajectory:
        if step.timestep == first:
            return step.latents
    raise ValueError(
        f"Sampling starts at timestep {first}, which the inversion did not pass. Invert and sample with the same "
        f"num_inference_steps (inverted with {len(trajectory)}, sampling with {config.num_inference_steps})."
    )


def fresh_noise(shape: tuple[int, ...], config: SamplingConfig) -> Tensor:
    """Noise of the config's seed, (b, c, f, h, w).

    Raises:
        ValueError: with denoise below 1, where sampling would need the clip.
    """
    if config.denoise < 1:
        raise ValueError("Fresh noise holds nothing of the clip to start partway from. Set denoise to 1.")
    return plain_noise(shape, config.seed)


def invert_and_sample(
    video_unet: VideoUNet,
    latents: Tensor,
    positive: Tensor | Conditioning,
    negative: Tensor | Conditioning,
    scheduler: Any,
    config: SamplingConfig,
    *,
    inverted_under: Tensor | Conditioning,
) -> Iterator[InversionStep | SamplingStep]:
    """Invert a clip, and sample it with as many steps.

    Arguments:
        latents: the clip, (b, c, f, h, w).
        positive, negative: of the sampling; embeddings, (b, n, d) and (b, m, d).
        inverted_under: of the inversion, (b, k, d): the empty prompt, as published.
        config: how to sample.

    Yields:
        The steps of both. The last one's latents are the edit.
    """
    trajectory = []
    for step in invert(video_unet, latents, inverted_under, scheduler, InversionConfig(config.num_inference_steps)):
        trajectory.append(step)
        yield step
    yield from sample(video_unet, inverted_start(trajectory, scheduler, config), positive, negative, scheduler, config)
