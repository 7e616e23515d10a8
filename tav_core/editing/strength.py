"""The strength search: how strong a tuning is to be for an edit, scored by the model itself, tuned and untuned.

An edit is noised, always with the same noise, and predicted. With e for the mean squared error of the prediction,

    prompt_score = e(untuned, caption) - e(untuned, prompt)     it shows what the prompt says and the caption does not
    source_score = e(untuned, prompt)  - e(tuned, prompt)       it shows what only the clip can have taught

each over the sum of its two. A diffusion model predicts a picture best under the words that it shows, and so tells them
apart (diffusion classifier, Li et al., arXiv:2303.16203); here it tells the tuning from its absence too. A stronger
tuning preserves more of the clip and follows the prompt less: the best strength is the one whose lower score is
highest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import raise_unless_finite
from ..conditioning import Conditioning
from ..diffusion.denoiser import Denoiser, to_float32, unet_denoiser
from ..unet.video_unet import VideoUNet
from .inversion import InversionStep
from .sampling import SamplingStep

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
LEVELS = (0.3, 0.45, 0.6, 0.75)  # of the schedule, from its clean end, at which edits are predicted
SEED = 0

Step = InversionStep | SamplingStep


@dataclass(frozen=True, eq=False)
class Trial:
    """An edit at one strength of the tuning.

    Attributes:
        strength: of the tuning, see `unet/adapters.py`.
        latents: the edit, (b, c, f, h, w).
        prompt_score: how far it shows what the prompt says and the caption does not, in [-1, 1].
        source_score: how far it shows of the clip what neither of them says, in [-1, 1].
    """

    strength: float
    latents: Tensor
    prompt_score: float
    source_score: float


def search_strength(
    video_unet: VideoUNet,
    edit: Callable[[], Iterator[Step]],
    prompt: Tensor | Conditioning,
    caption: Tensor | Conditioning,
    scheduler: Any,
    strengths: Sequence[float] = STRENGTHS,
) -> Iterator[Step | Trial]:
    """Edit at several strengths of the tuning that is loaded, and score each edit. At the end the strength is 1.

    Arguments:
        video_unet: the tuned model.
        edit: makes the edit with the weights as they are; its last step holds the latents. It inverts the clip anew
            where it starts from an inversion.
        prompt, caption: embeddings of the edit's prompt and of the clip's caption, (b, n, d).
        scheduler: a diffusers scheduler or its config, read for betas and prediction type.
        strengths: to try, see `unet/adapters.py`.

    Yields:
        The steps of each edit, and after them its Trial. `best_trial` chooses among the trials.

    Raises:
        FloatingPointError: a prediction is not finite.
    """
    denoisers = unet_denoiser(video_unet, scheduler, prompt), unet_denoiser(video_unet, scheduler, caption)
    try:
        for strength in strengths:
            video_unet.adapter.scale = strength
            for step in edit():
                yield step
            yield score_edit(video_unet, strength, step.latents, *denoisers)
    finally:
        video_unet.adapter.scale = 1.0


def score_edit(
    video_unet: VideoUNet, strength: float, edit: Tensor, under_prompt: Denoiser, under_caption: Denoiser
) -> Trial:
    """Score an edit by the untuned model and by the tuning at strength 1, which is loaded afterwards.

    Arguments:
        video_unet: the tuned model.
        strength: of the edit, for the trial alone.
        edit: its latents, (b, c, f, h, w).
        under_prompt, under_caption: the model under the edit's prompt and under the clip's caption.
    """
    clip = to_float32(edit, video_unet.device)
    try:
        video_unet.adapter.scale = 0.0
        by_prompt, by_caption = (prediction_error(denoiser, clip) for denoiser in (under_prompt, under_caption))
    finally:
        video_unet.adapter.scale = 1.0
    tuned = prediction_error(under_prompt, clip)
    prompt_score = (by_caption - by_prompt) / (by_caption + by_prompt)
    return Trial(strength, edit, prompt_score, (by_prompt - tuned) / (by_prompt + tuned))


def prediction_error(denoiser: Denoiser, clip: Tensor) -> float:
    """Mean squared error of the prediction for latents under noise, in the mean over `LEVELS`.

    Arguments:
        denoiser: what predicts.
        clip: latents (b, c, f, h, w), float32, on the denoiser's device.

    Raises:
        FloatingPointError: a prediction is not finite.
    """
    schedule, generator, errors = denoiser.schedule, torch.Generator().manual_seed(SEED), []
    for level in LEVELS:
        timestep = round(level * schedule.num_train_timesteps)
        noise = torch.randn(clip.shape, generator=generator).to(clip.device)
        with torch.no_grad():
            prediction = denoiser(schedule.add_noise(clip, noise, timestep), timestep)
        raise_unless_finite(prediction, f"Scoring an edit at timestep {timestep}")
        errors.append(float((prediction - schedule.training_target(clip, noise, timestep)).square().mean()))
    return sum(errors) / len(errors)


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The trial whose lower score is highest, each score as a share of the largest among the trials.

    Raises:
        ValueError: there is none.
    """
    if not trials:
        raise ValueError("There is no trial to choose from: try one strength at least.")
    prompt = max(max(trial.prompt_score for trial in trials), 1e-9)
    source = max(max(trial.source_score for trial in trials), 1e-9)
    return max(trials, key=lambda trial: min(trial.prompt_score / prompt, trial.source_score / source))
