"""Edits that keep their source: the clip is sampled beside its edit, and only their difference is added to it.

The clip has a branch of its own, s_t, which is put right at each step, so that it ends as the clip itself (direct
inversion, Ju et al., arXiv:2310.01506). The edit is this branch and an offset,

    x_t = s_t + d_t        d = 0 at the start,        d_next = step(x_t, prompt) - step(s_t, caption)

with the guided DDIM step of `sampling.py` for both: what puts the clip's branch right is added to the edit too, which
the paper leaves out. Where the prompt asks for what the caption says, the predictions agree and the clip stays. The
branch is the trajectory of the inverted clip, or the clip under noise that is drawn anew at each step (Kulikov et al.,
arXiv:2412.08629, for flow models): latents as the model was trained on, and no inversion.

While it is decided what lies where, all frames share their offsets along the motion of the clip (`carrying.py`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.schedule import NoiseSchedule, ddim_step
from ..unet.frames import model_float32, refuse_non_finite
from ..unet.inflate import VideoUNet
from .inversion import InversionStep
from .propagation import Carrier
from .sampling import SamplingConfig, SamplingStep, check_sampling, guided_prediction, guiding_negative


@dataclass(frozen=True, eq=False)
class SourceBranch:
    """The clip that an edit is to keep.

    Attributes:
        latents: the clean clip, (b, c, f, h, w), scaled by the VAE's factor.
        caption: the embedding of the words for it, (b, n, d).
        trajectory: what `invert` yielded for it, with as many steps as sampling takes; None for fresh noise.
    """

    latents: Tensor
    caption: Tensor
    trajectory: Iterable[InversionStep] | None = None


def sample_beside(
    video_unet: VideoUNet,
    source: SourceBranch,
    positive: Tensor,
    negative: Tensor | None,
    scheduler: Any,
    config: SamplingConfig = SamplingConfig(),
    *,
    mask: Tensor | None = None,
    carry: bool = True,
) -> Iterator[SamplingStep]:
    """Edit a clip beside its own branch. Under the caption itself it comes back as it is, whatever the guidance.

    Arguments:
        video_unet: the inflated model, tuned on the clip.
        source: the clip.
        positive: the embedding of the edit's prompt, (b, n, d).
        negative: the embedding to guide away from, (b, m, d); None without guidance.
        scheduler: a diffusers scheduler or its config, read for betas and prediction type.
        config: how to sample; `seed` is that of the fresh noise, `eta` is 0.
        mask: 1 where the edit may change the clip and 0 where it is locked, or between; (b, 1, f, h, w) in latent
            pixels or what spreads to it.
        carry: whether the frames share what changes early (`NoiseSchedule.early`) along the motion of the clip.

    Yields:
        A SamplingStep for each timestep, falling; its latents are the clip with the offset so far, the last ones the
        edit.

    Raises:
        ValueError: if a shape does not fit, guidance lacks a negative embedding, eta is not 0, the mask does not lie in
            [0, 1], or the trajectory lacks a timestep.
    """
    check_sampling(video_unet, source.latents, config, negative, caption=source.caption, positive=positive)
    if config.eta != 0:
        raise ValueError(f"An edit beside its source takes DDIM steps, eta 0, got {config.eta}.")
    schedule, device = NoiseSchedule.from_scheduler(scheduler), video_unet.device
    stride = schedule.stride(config.num_inference_steps)
    clip = model_float32(source.latents, device)
    texts = positive.to(device), source.caption.to(device)
    negative = guiding_negative(negative, config, device)
    free = _fitting(mask, clip)
    offset = torch.zeros_like(clip)
    carrier = Carrier(clip) if carry else None
    timesteps = schedule.timesteps(config.num_inference_steps, config.denoise)
    for timestep, branch in zip(timesteps, _branch(source, clip, schedule, timesteps, config.seed), strict=True):
        present, coming = schedule.alpha(timestep), schedule.alpha(timestep - stride)
        now, stepped = config.at(timestep, schedule), []
        with torch.no_grad():
            for latents, text in zip((branch + offset, branch), texts, strict=True):
                prediction = guided_prediction(video_unet, latents, timestep, text, negative, now)
                stepped.append(ddim_step(latents, prediction, present, coming, schedule.prediction_type))
        offset = stepped[0] - stepped[1]
        if carrier is not None and schedule.early(timestep):
            offset = carrier.share(offset)
        offset = free * offset
        refuse_non_finite(offset, f"Sampling at timestep {timestep}")
        yield SamplingStep(timestep, (clip + offset).to(source.latents.device))


def _fitting(mask: Tensor | None, clip: Tensor) -> Tensor:
    """The mask as it is multiplied with latents; one everywhere if there is none.

    Raises:
        ValueError: it does not spread to the latents, or does not lie in [0, 1].
    """
    free = model_float32(torch.ones(()) if mask is None else mask, clip.device)
    if not ((free >= 0) & (free <= 1)).all():  # NaN is neither
        raise ValueError("The mask must lie in [0, 1]: divide by its largest value, and look for NaN.")
    if any(ours not in (1, theirs) for ours, theirs in zip(free.shape[::-1], clip.shape[::-1], strict=False)):
        raise ValueError(f"The mask has shape {tuple(free.shape)}, the latents {tuple(clip.shape)}; resize it to them.")
    return free


def latent_mask(mask: Tensor, latents: Tensor) -> Tensor:
    """A mask drawn over frames, at the size of the latents: each takes the largest value among its pixels.

    Arguments:
        mask: (f, height, width) in [0, 1], 1 where an edit may change the clip, of any size; or (1, height, width) for
            all frames.
        latents: (b, c, f, h, w).

    Returns:
        (1, 1, f, h, w) or (1, 1, 1, h, w), for `sample_beside`.

    Raises:
        ValueError: the mask is no such tensor, or has another number of frames.
    """
    if mask.ndim != 3 or mask.shape[0] not in (1, latents.shape[2]):
        raise ValueError(
            f"A mask is (frames, height, width) for one frame or all {latents.shape[2]}, got {tuple(mask.shape)}."
        )
    return F.adaptive_max_pool2d(mask.float(), latents.shape[-2:])[None, None].clamp(0, 1)


def _branch(
    source: SourceBranch, clip: Tensor, schedule: NoiseSchedule, timesteps: list[int], seed: int
) -> Iterator[Tensor]:
    """The clip at the level of each timestep, (b, c, f, h, w)."""
    if source.trajectory is None:
        generator = torch.Generator().manual_seed(seed)
        for timestep in timesteps:
            noise = torch.randn(clip.shape, generator=generator).to(clip.device)
            yield schedule.add_noise(clip, noise, timestep)
        return
    inverted = {step.timestep: step.latents for step in source.trajectory}
    if missing := sorted(set(timesteps) - set(inverted)):
        raise ValueError(
            f"The inversion did not pass timestep {missing[0]}: invert and sample with the same num_inference_steps "
            f"(inverted with {len(inverted)})."
        )
    for timestep in timesteps:
        yield model_float32(inverted[timestep], clip.device)
