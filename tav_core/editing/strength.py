"""How strong a tuning is to be for an edit, judged by the model itself, with the tuning and without it.

An edit is noised, always with the same noise, and predicted. With e for the mean squared error of the prediction,

    asked = e(untuned, caption) - e(untuned, prompt)     it shows what the prompt says, and not what the caption says
    kept  = e(untuned, prompt)  - e(tuned, prompt)       it shows what only the clip can have taught

each over the sum of its two. A diffusion model predicts a picture best under the words that it shows, and so tells them
apart (diffusion classifier, Li et al., arXiv:2303.16203); here it tells the tuning from its absence too. A stronger
tuning keeps more of the clip and follows the prompt less: the strength to take is the one whose worse side is best.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..diffusion.schedule import NoiseSchedule
from ..unet.frames import model_float32, refuse_non_finite
from ..unet.inflate import VideoUNet
from .inversion import InversionConfig, InversionStep, invert
from .sampling import SamplingConfig, SamplingStep, sample

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
LEVELS = (0.3, 0.45, 0.6, 0.75)  # of the schedule, from its clean end, at which edits are predicted
SEED = 0


@dataclass(frozen=True, eq=False)
class Trial:
    """An edit at one strength of the tuning.

    Attributes:
        strength: of the tuning, see `apply_tuned`.
        latents: the edit, (b, c, f, h, w).
        asked: how far it shows what the prompt says and the caption does not, in [-1, 1].
        kept: how far it shows of the clip what neither of them says, in [-1, 1].
    """

    strength: float
    latents: Tensor
    asked: float
    kept: float


def judge(
    place: Callable[[float], None],
    video_unet: VideoUNet,
    strength: float,
    edit: Tensor,
    prompt: Tensor,
    caption: Tensor,
    scheduler: Any,
) -> Trial:
    """Judge an edit. The tuning is at strength 1 afterwards.

    Arguments:
        place: puts the tuning into `video_unet` at a strength.
        video_unet: the inflated model.
        strength: the edit's, for the trial alone.
        edit: its latents, (b, c, f, h, w).
        prompt, caption: embeddings of the edit's prompt and of the clip's caption, (b, n, d).
        scheduler: a diffusers scheduler or its config, read for betas and prediction type.
    """
    schedule = NoiseSchedule.from_scheduler(scheduler)
    place(0.0)
    try:
        by_prompt, by_caption = (prediction_error(video_unet, edit, text, schedule) for text in (prompt, caption))
    finally:
        place(1.0)
    tuned = prediction_error(video_unet, edit, prompt, schedule)
    asked = (by_caption - by_prompt) / (by_caption + by_prompt)
    return Trial(strength, edit, asked, (by_prompt - tuned) / (by_prompt + tuned))


def prediction_error(video_unet: VideoUNet, latents: Tensor, text: Tensor, schedule: NoiseSchedule) -> float:
    """Mean squared error of the prediction for latents under noise, in the mean over `LEVELS`.

    Arguments:
        latents: (b, c, f, h, w).
        text: (b, n, d).

    Raises:
        FloatingPointError: a prediction is not finite.
    """
    clip, text = model_float32(latents, video_unet.device), text.to(video_unet.device)
    generator, errors = torch.Generator().manual_seed(SEED), []
    for level in LEVELS:
        timestep = round(level * schedule.num_train_timesteps)
        noise = torch.randn(clip.shape, generator=generator).to(clip.device)
        with torch.no_grad():
            prediction = video_unet(schedule.add_noise(clip, noise, timestep), timestep, text)
        refuse_non_finite(prediction, f"Judging an edit at timestep {timestep}")
        errors.append(float((prediction - schedule.training_target(clip, noise, timestep)).square().mean()))
    return sum(errors) / len(errors)


def invert_and_sample(
    video_unet: VideoUNet, latents: Tensor, positive: Tensor, negative: Tensor, scheduler: Any, config: SamplingConfig
) -> Iterator[InversionStep | SamplingStep]:
    """Invert a clip under the negative prompt and sample it under the positive one, with as many steps.

    Arguments:
        latents: the clip, (b, c, f, h, w).
        positive, negative: embeddings, (b, n, d) and (b, m, d).
        config: how to sample.

    Yields:
        The steps of both. The last one's latents are the edit.
    """
    inverted = {}
    for step in invert(video_unet, latents, negative, scheduler, InversionConfig(config.num_inference_steps)):
        inverted[step.timestep] = step.latents
        yield step
    timesteps = NoiseSchedule.from_scheduler(scheduler).timesteps(config.num_inference_steps, config.denoise)
    yield from sample(video_unet, inverted[timesteps[0]], positive, negative, scheduler, config)


def best(trials: Sequence[Trial]) -> Trial:
    """The trial whose worse side is best, each side as a share of the largest among the trials.

    Raises:
        ValueError: there is none.
    """
    if not trials:
        raise ValueError("There is no trial to choose from: try one strength at least.")
    asked, kept = (max(max(getattr(trial, side) for trial in trials), 1e-9) for side in ("asked", "kept"))
    return max(trials, key=lambda trial: min(trial.asked / asked, trial.kept / kept))
