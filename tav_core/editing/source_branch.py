"""Source-preserving edits: the clip has a branch of its own, and only the difference of the edit is added to it.

The source branch s_t is corrected at each step, so that it ends as the clip itself (direct inversion, Ju et al.,
arXiv:2310.01506). The edit is this branch and an offset,

    x_t = s_t + d_t        d = 0 at the start,        d_next = step(x_t, prompt) - step(s_t, caption)

with the guided DDIM step for both: the correction of the source branch is added to the edit too, which the paper leaves
out. Where the prompt asks for what the caption says, the predictions agree and the clip stays. The branch is the
trajectory of the inverted clip, or the clip under noise that is drawn anew at each step (Kulikov et al.,
arXiv:2412.08629, for flow models): latents as the model was trained on, and no inversion.

Fewer pixels change if the clip is predicted without guidance, `SamplingConfig.source_guidance_scale` 1, and if the
words of the prompt act where those of the caption do (`prompt_to_prompt.py`).

At high noise, where the layout is decided, the frames share their offsets along optical flow (`propagation.py`).

The step of the source branch does not depend on the prompt of the edit: kept, it is taken once for all prompts.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_range, check_type, raise_unless_finite
from ..conditioning import Conditioning, as_conditioning
from ..diffusion.ddim import ddim_step
from ..diffusion.denoiser import Denoiser, to_float32
from ..diffusion.schedule import NoiseSchedule
from ..unet.video_unet import VideoUNet
from .config import SamplingConfig
from .inversion import InversionStep
from .prompt_to_prompt import PromptToPrompt, replaced_kinds
from .propagation import FlowPropagation
from .sampling import SamplingStep, check_sampling, guided_denoiser


@dataclass(frozen=True, eq=False)
class SourceBranch:
    """The clip that an edit is to preserve.

    Attributes:
        latents: the clean clip, (b, c, f, h, w), scaled by the VAE's factor.
        caption: the embedding of its caption, (b, n, d).
        trajectory: what `invert` yielded for it, with as many steps as sampling takes; None for fresh noise.
        alignment: which token of the caption each one of the prompt stands for, see `PromptToPrompt`; None for the same
            places.
        steps: where the branch ends after each step, (b, c, f, h, w) by the timestep that it starts from, of earlier
            edits by the same weights, controls, negative prompt and config; what is missing is computed and put there.
            Steps in which attention is replaced are computed for each edit. None keeps nothing.
    """

    latents: Tensor
    caption: Tensor | Conditioning
    trajectory: Iterable[InversionStep] | None = None
    alignment: Tensor | None = None
    steps: MutableMapping[int, Tensor] | None = None


def sample_with_source_branch(
    video_unet: VideoUNet,
    source: SourceBranch,
    positive: Tensor | Conditioning,
    negative: Tensor | Conditioning | None,
    scheduler: Any,
    config: SamplingConfig = SamplingConfig(),
    *,
    mask: Tensor | None = None,
) -> Iterator[SamplingStep]:
    """Edit a clip along a branch of its own. Under the caption, guided as the clip is, the result is the clip.

    Arguments:
        video_unet: the inflated model, tuned on the clip.
        source: the clip.
        positive: the embedding of the edit's prompt, (b, n, d).
        negative: the embedding to guide away from, (b, m, d); None without guidance or with guide_from_caption.
        scheduler: a diffusers scheduler or its config, read for betas and prediction type.
        config: how to sample; `seed` is that of the fresh noise, `eta` is 0.
        mask: 1 where the edit may change the clip and 0 where it is locked, or between; (b, 1, f, h, w) in latent
            pixels or what broadcasts to it.

    Yields:
        A SamplingStep for each timestep, falling; its latents are the clip with the offset so far, the last ones the
        edit.

    Raises:
        ValueError: if a shape does not fit, guidance lacks a negative embedding, eta is not 0, the mask does not lie in
            [0, 1], the trajectory lacks a timestep, words are to be replaced that do not stand for each other, or a
            setting has no effect.
    """
    negative = source.caption if config.guide_from_caption else negative
    check_sampling(video_unet, source.latents, config, negative, caption=source.caption, positive=positive)
    if config.eta != 0:
        raise ValueError(f"A source-preserving edit takes DDIM steps, eta 0, got {config.eta}.")
    if config.guide_from_caption and config.source_guidance_scale is not None:
        raise ValueError(
            "source_guidance_scale has no effect with guide_from_caption, under which the clip is not guided: leave "
            "one of them out."
        )
    if config.cross_replace_steps > 0:
        _check_alignment(source, as_conditioning(positive).text.shape[1])
    clip = to_float32(source.latents, video_unet.device)
    attention = PromptToPrompt(source.alignment)
    under_prompt, under_caption = (
        guided_denoiser(video_unet, text, negative, scheduler, settings, control if config.replaces else None)
        for text, settings, control in (
            (positive, config, attention.put),
            (source.caption, config.of_the_source, attention.keep),
        )
    )
    schedule, free = under_prompt.schedule, _as_factor(mask, clip)
    propagation = FlowPropagation(clip) if config.propagate else None
    offset = torch.zeros_like(clip)
    steps = schedule.steps(config.num_inference_steps, config.denoise)
    branches = _branch(source, clip, schedule, steps, config.seed)
    for index, ((t, s), branch) in enumerate(zip(steps, branches, strict=True)):
        levels, attention.kinds = (schedule.alpha(t), schedule.alpha(s)), replaced_kinds(config, index / len(steps))
        with torch.no_grad():
            source_step = _source_step(source, branch, t, levels, under_caption, replaced=bool(attention.kinds))
            x_t = branch + offset
            edited = ddim_step(x_t, under_prompt(x_t, t), *levels, schedule.prediction_type)
        offset = edited - source_step
        if propagation is not None and schedule.is_high_noise(t):
            offset = propagation.propagate(offset)
        offset = free * offset
        raise_unless_finite(offset, f"Sampling at timestep {t}")
        edit = (clip + offset).to(source.latents.device)
        yield SamplingStep(t, edit, edit)


def _source_step(
    source: SourceBranch, branch: Tensor, t: int, levels: tuple[float, float], denoiser: Denoiser, replaced: bool
) -> Tensor:
    """Where the source branch ends after the step from timestep t: kept of an earlier edit, or predicted.

    Where attention is replaced, the pass is needed for its attention.
    """
    kept = None if replaced else source.steps
    if kept is not None and t in kept:
        return to_float32(kept[t], branch.device)
    step = ddim_step(branch, denoiser(branch, t), *levels, denoiser.schedule.prediction_type)
    if kept is not None:
        kept[t] = step.to(source.latents.device)
    return step


def branch_settings(
    source: SourceBranch, negative: Tensor | Conditioning | None, config: SamplingConfig
) -> tuple[SamplingConfig, dict[str, Tensor]]:
    """What the steps of a source branch depend on beside model, clip and caption.

    Arguments:
        source, negative, config: as `sample_with_source_branch` takes them.

    Returns:
        the settings that act, all others at their defaults; and the tensors, by name.
    """
    own = config.of_the_source
    drawn = source.trajectory is None
    settings = SamplingConfig(
        num_inference_steps=own.num_inference_steps,
        guidance_scale=own.guidance_scale,
        seed=own.seed if drawn else 0,
        guidance_rescale=own.guidance_rescale if own.guided else 0.0,
        denoise=own.denoise,
        high_noise_guidance_scale=own.high_noise_guidance_scale,
    )
    tensors = {f"trajectory.{step.timestep}": step.latents for step in source.trajectory or ()}
    if own.guided and negative is not None:
        tensors |= {f"negative.{name}": tensor for name, tensor in as_conditioning(negative).tensors().items()}
    return settings, tensors


def keeps_steps(config: SamplingConfig) -> bool:
    """Whether steps of the source branch can be kept for other prompts: attention is not replaced in all of them."""
    return max(config.cross_replace_steps, config.self_replace_steps) < 1


def _check_alignment(source: SourceBranch, num_tokens: int) -> None:
    """Raise a ValueError unless each of the prompt's tokens has one of the caption's, or none, that it stands for."""
    theirs = as_conditioning(source.caption).text.shape[1]
    if source.alignment is None:
        if num_tokens != theirs:
            raise ValueError(
                f"cross_replace_steps needs a prompt as long as the caption, got {num_tokens} tokens and {theirs}: "
                "word them alike, give an alignment, or set it to 0."
            )
        return
    places = source.alignment
    if places.shape != (num_tokens,) or places.is_floating_point() or not ((places >= -1) & (places < theirs)).all():
        raise ValueError(
            f"An alignment holds, for each of the prompt's {num_tokens} tokens, a place from 0 to {theirs - 1} in the "
            f"caption or -1; got {tuple(places.shape)} of {places.dtype}. Make it with align_prompts."
        )


def _as_factor(mask: Tensor | None, clip: Tensor) -> Tensor:
    """The mask as it is multiplied with latents; one everywhere if there is none.

    Raises:
        ValueError: it does not spread to the latents, or does not lie in [0, 1].
    """
    free = to_float32(torch.ones(()) if mask is None else mask, clip.device)
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
        (1, 1, f, h, w) or (1, 1, 1, h, w), for `sample_with_source_branch`.

    Raises:
        TypeError, ValueError: the mask is no such tensor, has another number of frames, or does not lie in [0, 1].
    """
    check_type("mask", mask, Tensor, "convert it with torch.as_tensor()")
    if mask.ndim != 3 or mask.shape[0] not in (1, latents.shape[2]):
        raise ValueError(
            f"A mask is (frames, height, width) for one frame or all {latents.shape[2]}, got {tuple(mask.shape)}."
        )
    check_range("mask", mask.float(), 0, 1)
    return F.adaptive_max_pool2d(mask.float(), latents.shape[-2:])[None, None].clamp(0, 1)


def _branch(
    source: SourceBranch, clip: Tensor, schedule: NoiseSchedule, steps: list[tuple[int, int]], seed: int
) -> Iterator[Tensor]:
    """The clip at the level of each timestep, (b, c, f, h, w)."""
    if source.trajectory is None:
        generator = torch.Generator().manual_seed(seed)
        for timestep, _ in steps:
            noise = torch.randn(clip.shape, generator=generator).to(clip.device)
            yield schedule.add_noise(clip, noise, timestep)
        return
    inverted = {step.timestep: step.latents for step in source.trajectory}
    if missing := sorted({timestep for timestep, _ in steps} - set(inverted)):
        raise ValueError(
            f"The inversion did not pass timestep {missing[0]}: invert and sample with the same num_inference_steps "
            f"(inverted with {len(inverted)})."
        )
    for timestep, _ in steps:
        yield to_float32(inverted[timestep], clip.device)
